"""Data files as verl reads them (utils/dataset/rl_dataset.py): which it takes, and their rows as
Arrow tables, a batch at a time.
"""

from __future__ import annotations

import glob
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from omegaconf import DictConfig

from agentflow_verl.core.errors import ConfigError

KEYS = ("train_files", "val_files")
ENDINGS = (".parquet", ".json", ".jsonl")  # verl takes them in lower case only
WILDCARDS = "*?["  # verl hands names to datasets.load_dataset, which reads patterns
BATCH_ROWS = 20_000


@dataclass(frozen=True)
class DataFile:
    """A local data file that a run reads. ``key`` is the option that names it."""

    key: str
    name: str

    @property
    def path(self) -> Path:
        return Path(self.name).expanduser()

    @property
    def where(self) -> str:
        """How a message about the file begins."""
        return f"data.{self.key}: {self.name}"


def local_files(config: DictConfig, key: str) -> list[DataFile]:
    """The files of ``data.<key>`` that are here; what verl fetches from elsewhere is left out.

    Raises:
        ConfigError: nothing is named, there is no such file, or verl does not read its kind.
    """
    named = config.data[key]
    if not named:
        raise ConfigError(f"data.{key} is not set: name a parquet file, or a list of them")
    names = [named] if isinstance(named, str) else list(named)
    files = [DataFile(key, name) for name in names if "://" not in name]
    for file in files:
        _check_name(file)
    return files


def check_together(files: list[DataFile], readers: list[RowReader]) -> None:
    """verl concatenates the files of one key: the types of their columns must agree.

    Raises:
        ConfigError: a column of two files differs in type (a string and pandas' or polars' large
            string do).
    """
    rows: list[datasets.Dataset] = []  # one of each file: its types are what matters
    for file, reader in zip(files, readers):
        schema = reader.schema
        nulls = [pa.nulls(1, kind) for kind in schema.types]
        rows.append(datasets.Dataset(pa.Table.from_arrays(nulls, schema=schema)))
        try:
            datasets.concatenate_datasets(rows)
        except ValueError as wrong:
            said = " ".join(str(wrong).split())[:300]
            raise ConfigError(
                f"{file.where} cannot be read together with {files[0].name}: {said}; write both"
                " with the same column types"
            ) from None


def _check_name(file: DataFile) -> None:
    """There is such a file, and verl takes it by its name."""
    path, name = file.path, file.name
    if path.is_dir():
        raise ConfigError(f"{file.where} is a folder: list the files in it")
    if not path.is_file():
        listed = ""
        if found := sorted(glob.glob(str(path))):
            listed = f"; list the files: data.{file.key}=[{','.join(found)}]"
        raise ConfigError(f"data.{file.key}: there is no file {name}{listed}")
    stem, ending = path.with_suffix(""), path.suffix
    if ending.lower() in ENDINGS and ending != ending.lower():
        renamed = stem.with_suffix(ending.lower())
        raise ConfigError(
            f"{file.where}: verl reads files whose names end in {', '.join(ENDINGS)}, in lower"
            f" case: {_move(path, renamed)}"
        )
    if ending not in ENDINGS:
        raise ConfigError(
            f"{file.where}: verl reads files whose names end in {', '.join(ENDINGS)}; convert it"
        )
    if set(name) & set(WILDCARDS):
        plain = "".join(["_" if sign in WILDCARDS else sign for sign in path.name])
        raise ConfigError(
            f"{file.where}: verl reads {' '.join(WILDCARDS)} in a name as a pattern:"
            f" {_move(path, path.with_name(plain))}"
        )


def _move(path: Path, renamed: Path) -> str:
    """The shell command that renames a file."""
    return f"mv {shlex.quote(str(path))} {shlex.quote(str(renamed))}"


class RowReader:
    """The rows of one file as Arrow record batches."""

    def __init__(self, file: DataFile):
        """Raises ConfigError: the file is not what its name says."""
        self.file = file
        try:
            if file.name.endswith(".parquet"):
                opened = parquet.ParquetFile(file.path)
                self._parquet: parquet.ParquetFile | None = opened
                self.schema, self.rows = opened.schema_arrow, opened.metadata.num_rows
            else:
                self._parquet, self._json = None, _read_json(file.path)
                self.schema, self.rows = self._json.data.table.schema, self._json.num_rows
        except Exception as wrong:
            kind = "parquet" if file.name.endswith(".parquet") else "JSON"
            said = " ".join(str(wrong).split())[:200]
            raise ConfigError(f"{file.where} is not a {kind} file ({said})") from None

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """The rows in their order, with these columns only.

        Raises:
            ConfigError: a part of the file cannot be read.
        """
        try:
            if self._parquet is None:
                yield from self._json.data.table.select(columns).to_batches(BATCH_ROWS)
            else:
                yield from self._text_checked(
                    self._parquet.iter_batches(BATCH_ROWS, columns=columns)
                )
        except (pa.ArrowException, OSError) as wrong:
            said = " ".join(str(wrong).split())[:200]
            raise ConfigError(f"{self.file.where} cannot be read to its end ({said})") from None

    def _text_checked(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The batches, after a look at the bytes of their text: a parquet file may hold any, and
        Python fails at the first that is not UTF-8, in the middle of a run.
        """
        first = 0
        for batch in batches:
            try:
                batch.validate(full=True)
            except pa.ArrowInvalid as wrong:
                last = first + batch.num_rows - 1
                raise ConfigError(
                    f"{self.file.where}, rows {first} to {last}: text that is not UTF-8 ({wrong})"
                ) from None
            first += batch.num_rows
            yield batch

    def python_rows(
        self, batch: pa.RecordBatch, first: int, numbers: np.ndarray
    ) -> list[dict[str, Any]]:
        """Some rows of a batch as verl hands them on.

        Args:
            first: the number in the file of the batch's first row.
            numbers: rows of the batch.
        """
        if self._parquet is None:  # a member of mixed types is stored as JSON text, and decoded
            return [self._json[first + number] for number in numbers.tolist()]
        rows: list[dict[str, Any]] = batch.take(pa.array(numbers)).to_pylist()
        return rows


def _read_json(path: Path) -> datasets.Dataset:
    """A JSON list or JSON lines, read by the reader that verl uses: its cache serves verl then."""
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset("json", data_files=str(path))["train"]
    finally:
        if shown:
            datasets.enable_progress_bars()
