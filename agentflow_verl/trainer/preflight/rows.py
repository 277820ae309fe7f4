"""Every row of the data files can be asked and scored, known before anything starts.

Columns are looked at as a whole first: most rows have the plain form (a prompt of text messages
that ends with the user's question, a gold that is text or a number) and are settled by a few Arrow
kernels. The others are read one by one by ``parse_row``, which is what the run itself does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from omegaconf import DictConfig, OmegaConf

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.flow.question import MEDIA_COLUMNS, has_answer, parse_row
from agentflow_verl.rewards import registry
from agentflow_verl.rewards.compute import score_answer
from agentflow_verl.trainer.preflight import columns as plain
from agentflow_verl.trainer.preflight.data_files import KEYS, DataFile, RowReader, local_files

logger = logging.getLogger(__name__)

AGENT_LOOP = "agentflow"
REPORT_EVERY_S = 3.0
ROWS_AT_ONCE = 1_000  # Python objects of so many rows at a time
# Scorers of this package that need no more of a row than some gold answer.
GOLD_IS_ENOUGH = ("maths", "qa")
OWN_FUNCTION = (
    "; or score it with a function of your own: reward.custom_reward_function.path=FILE"
    " reward.custom_reward_function.name=FUNCTION"
)


def check_data(config: DictConfig) -> None:
    """Raises ConfigError for the first file or row that a run could not use."""
    reading = RowCheck.from_config(config)
    seen: set[str] = set()
    for key in KEYS:
        files = local_files(config, key)
        readers = [RowReader(file) for file in files]
        _check_count(config, key, files, readers)
        for reader in readers:
            if reader.file.name not in seen:
                seen.add(reader.file.name)
                reading.check(reader)


def custom_reward_path(config: DictConfig) -> str | None:
    """The file or module of the user's own reward function, where there is one."""
    path = OmegaConf.select(config, "reward.custom_reward_function.path")
    return None if path is None else str(path)


def _check_count(
    config: DictConfig, key: str, files: list[DataFile], readers: list[RowReader]
) -> None:
    """No file is empty, and the training files fill a batch."""
    for reader in readers:
        if reader.rows == 0:
            raise ConfigError(f"{reader.file.where} has no rows")
    named = config.data[key]
    if key != "train_files" or len(files) < (1 if isinstance(named, str) else len(named)):
        return
    rows, needed = sum([reader.rows for reader in readers]), config.data.train_batch_size
    limit = config.data.get("train_max_samples", -1)
    if 0 < limit < min(rows, needed):
        raise ConfigError(
            f"data.train_max_samples={limit} is fewer than the {needed} rows that one batch needs"
            " (data.train_batch_size)"
        )
    if rows < needed:
        where = files[0].where if len(files) == 1 else f"data.{key}: the {len(files)} files"
        verb = "has" if len(files) == 1 else "have"
        raise ConfigError(
            f"{where} {verb} {rows} rows, fewer than the {needed} that one batch needs"
            " (data.train_batch_size)"
        )


@dataclass
class RowCheck:
    """What the rows of a run must have."""

    prompt_key: str
    custom_reward: bool
    drops_long_prompts: bool
    media_columns: tuple[str, ...] = MEDIA_COLUMNS
    scorer_names: dict[tuple[Any, Any], str] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: DictConfig) -> RowCheck:
        data = config.data
        return cls(
            prompt_key=data.prompt_key,
            custom_reward=custom_reward_path(config) is not None,
            drops_long_prompts=bool(data.get("filter_overlong_prompts", False)),
            media_columns=tuple(
                data.get(name, default)
                for name, default in zip(("image_key", "video_key", "audio_key"), MEDIA_COLUMNS)
            ),
        )

    def check(self, reader: RowReader) -> None:
        """All rows of a file. Raises ConfigError with the file and the row, counted from 0."""
        file, names = reader.file, reader.schema.names
        missing = {self.prompt_key, "data_source", "reward_model"} - set(names)
        if missing:
            raise ConfigError(f"{file.where} has no column {', '.join(sorted(missing))}")
        self._check_prompt_type(reader)
        optional = ("extra_info", "agent_name", *self.media_columns)
        wanted = [self.prompt_key, "data_source", "reward_model"]
        wanted += [name for name in optional if name in names]
        progress, done = _Progress(file, reader.rows), 0
        for batch in reader.batches(wanted):
            self._check_batch(reader, batch, done)
            done += batch.num_rows
            progress.report(done)

    def _check_prompt_type(self, reader: RowReader) -> None:
        kind = reader.schema.field(self.prompt_key).type
        if self.drops_long_prompts and plain.is_text(kind):
            raise ConfigError(
                f"{reader.file.where}: {self.prompt_key} is a string, and verl measures only lists"
                " of messages: set data.filter_overlong_prompts=false"
            )

    def _check_batch(self, reader: RowReader, batch: pa.RecordBatch, first: int) -> None:
        open_rows = np.flatnonzero(~self._settled(batch))
        for start in range(0, len(open_rows), ROWS_AT_ONCE):
            numbers = open_rows[start : start + ROWS_AT_ONCE]
            rows = reader.python_rows(batch, first, numbers)
            for number, row in zip(numbers.tolist(), rows):
                try:
                    self.check_row(row)
                except ConfigError as wrong:
                    raise ConfigError(
                        f"{reader.file.where}, row {first + number}: {wrong}"
                    ) from None

    def _settled(self, batch: pa.RecordBatch) -> np.ndarray:
        """Which rows are certainly right, from their columns."""
        columns = {name: plain.decoded(batch.column(name)) for name in batch.schema.names}
        sure = plain.has_question(columns[self.prompt_key])
        for name in self.media_columns:
            if name in columns:
                sure &= plain.is_empty(columns[name])
        if "agent_name" in columns:
            sure &= plain.equals(columns["agent_name"], AGENT_LOOP)
        sure &= plain.is_object(columns["reward_model"])
        extra = columns.get("extra_info")
        if extra is not None:
            sure &= plain.is_object_or_null(extra)
        if self.custom_reward:
            return sure
        sure &= plain.has_gold(columns["reward_model"])
        enough = self._gold_is_enough(columns["data_source"], plain.member(extra, "scorer"))
        return np.asarray(sure & enough)

    def _gold_is_enough(self, sources: pa.Array, scorers: pa.Array | None) -> np.ndarray:
        """Rows whose scorer is known and looks at nothing but the gold."""
        result = np.zeros(len(sources), dtype=bool)
        if not plain.is_text(sources.type) or not (scorers is None or plain.is_text(scorers.type)):
            return result
        for (source, scorer), rows in plain.groups(sources, scorers).items():
            try:
                result[rows] = self._scorer_name(source, scorer) in GOLD_IS_ENOUGH
            except ConfigError:
                continue  # read one by one, the first of them is named
        return result

    def check_row(self, row: Mapping[str, Any]) -> None:
        """One row, as the run would read and score it. Raises ConfigError."""
        if "agent_name" in row and row["agent_name"] != AGENT_LOOP:
            raise ConfigError(
                f"agent_name is {row['agent_name']!r}: this run trains the agent loop"
                f" {AGENT_LOOP!r}; write that, or drop the column"
            )
        if row.get("reward_model") is None:
            raise ConfigError("reward_model is null: it must be an object with ground_truth")
        parsed = parse_row(row, self.prompt_key, self.media_columns)
        if self.custom_reward:
            return
        if row["data_source"] is None:
            raise ConfigError("data_source is null, so no scorer is known for it")
        name = self._scorer_name(parsed.data_source, parsed.extra_info.get("scorer"))
        if not _is_built_in(name):
            return
        if not has_answer(parsed.gold):
            raise ConfigError(
                f"reward_model.ground_truth is {parsed.gold!r}, and the scorer {name!r} needs a"
                " gold answer there"
            )
        score_answer(parsed.data_source, "", parsed.gold, parsed.scorer_extra)

    def _scorer_name(self, source: Any, scorer: Any) -> str:
        key = (source, scorer)
        if key not in self.scorer_names:
            try:
                name = scorer or registry.scorer_name(source)
                registry.scorer(name)
            except ConfigError as wrong:
                raise ConfigError(f"{wrong}{OWN_FUNCTION}") from None
            self.scorer_names[key] = name
        return self.scorer_names[key]


def _is_built_in(scorer: str) -> bool:
    """Whether the scorer is of this package. One that a user registered reads golds as it likes."""
    return registry.scorer(scorer).__module__.startswith("agentflow_verl.")


class _Progress:
    """Tells the log how far a long file has been checked."""

    def __init__(self, file: DataFile, rows: int):
        self.file, self.rows = file, rows
        self.next_report = time.monotonic() + REPORT_EVERY_S

    def report(self, done: int) -> None:
        if time.monotonic() < self.next_report:
            return
        self.next_report = time.monotonic() + REPORT_EVERY_S
        logger.info("%s: %s of %s rows checked", self.file.where, f"{done:,}", f"{self.rows:,}")
