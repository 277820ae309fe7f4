"""Rows of a data file: parquet as training reads it, JSON, JSON lines, CSV or TSV.

Text is UTF-8, UTF-16 or UTF-32, recognised by the byte order mark or by the position of the zero
bytes. Any other encoding is refused with the command that converts the file: a wrong guess would
garble some languages without an error.
"""

from __future__ import annotations

import ast
import codecs
import csv
import importlib.util
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentflow_verl.core.errors import ConfigError

Row = dict[str, Any]

SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet", ".csv", ".tsv")
LIST_KEYS = ("data", "rows", "examples", "questions")  # under which a JSON object holds its rows
DELIMITERS = (",", ";", "\t")
MOST_CELL_CHARS = 1 << 24
# Longest mark first: that of UTF-16 begins that of UTF-32.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SAMPLE_BYTES = 4096


def find_files(name: str, folder: Path) -> list[Path]:
    """The file of a benchmark, or its shards (``NAME-00000-of-00002.parquet``). ``name`` may have
    the suffix, where several files differ in that alone. Raises ConfigError with what is there.
    """
    if not folder.is_dir():
        raise ConfigError(f"--data {folder}: there is no such folder")
    there = sorted(filter(_is_data_file, folder.iterdir()))
    named = [path for path in there if name in (path.name, path.stem)]
    # Several formats of one name: the order of SUFFIXES decides.
    named.sort(key=lambda path: SUFFIXES.index(path.suffix.lower()))
    if named:
        return named[:1]
    reference_layout = folder / name / "data" / "data.json"
    if reference_layout.is_file():
        return [reference_layout]
    # The hub splits large data sets into NAME-00000-of-00002.parquet and so on.
    shards = [path for path in there if path.stem.startswith(f"{name}-") and "-of-" in path.stem]
    if shards:
        return shards
    stems = sorted({path.stem for path in there})
    names = ", ".join(f"{name}{suffix}" for suffix in SUFFIXES)
    raise ConfigError(
        f"benchmark {name!r}: none of {names} is there; {folder} has"
        f" {', '.join(stems) or 'no such files'}"
    )


def _is_data_file(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def read_rows(path: Path) -> list[Row]:
    """The rows of a file. Raises ConfigError with the file, and the row or line that is wrong."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet_rows(path)
    text = decode(path.read_bytes(), path)
    if suffix in (".csv", ".tsv"):
        return _csv_rows(text, path)
    rows = _json_rows(text, path)
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ConfigError(
                f"{path}, row {number}: {type(row).__name__}, not an object with question and"
                " answer"
            )
    return rows


def decode(content: bytes, path: Path) -> str:
    """The text of a file. Raises ConfigError where it is not Unicode."""
    encoding = detect_encoding(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 (byte {error.start}); convert it first, such as from Latin-1:"
            f" iconv -f LATIN1 -t UTF-8 '{path}' > '{path.stem}_utf8{path.suffix}'"
        ) from None


def detect_encoding(content: bytes) -> str:
    """UTF-8, or UTF-16 where a mark says so, the first character, or every other byte mostly."""
    for mark, encoding in MARKS:
        if content.startswith(mark):
            return encoding
    # JSON begins with an ASCII character, as most tables do, whatever follows.
    if len(content) > 1 and 0 in content[:2] and any(content[:2]):
        return "utf-16-le" if content[1] == 0 else "utf-16-be"
    sample = content[:SAMPLE_BYTES]
    zeros_even, zeros_odd = sample[0::2].count(0), sample[1::2].count(0)
    # Of ASCII, UTF-16 has one zero byte in two.
    if max(zeros_even, zeros_odd) * 4 <= len(sample):
        return "utf-8"
    # Little endian puts the character first and the zero of its high byte second.
    if zeros_odd > zeros_even:
        return "utf-16-le"
    return "utf-16-be"


def _json_rows(text: str, path: Path) -> list[Any]:
    opening = text.lstrip()[:1]
    try:
        if opening == "[":
            rows: list[Any] = json.loads(text)
            return rows
        if opening == "{" and not _is_json(text.lstrip().partition("\n")[0]):
            return _rows_of_object(json.loads(text), path)
        rows = _rows_of_lines(text, path)
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply to be questions") from None
    except ValueError as error:
        raise ConfigError(f"{path}: neither a JSON list nor JSON lines: {error}") from None
    if len(rows) == 1 and isinstance(rows[0], dict) and not rows[0].keys().isdisjoint(LIST_KEYS):
        return _rows_of_object(rows[0], path)
    return rows


def _rows_of_lines(text: str, path: Path) -> list[Any]:
    rows = []
    # Not splitlines: U+2028 may stand in a question.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if not rows:  # nothing of it is JSON
                raise
            place = f"{path}, line {number}, column {error.colno}"
            raise ConfigError(f"{place}: not JSON: {error.msg}") from None
    return rows


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _rows_of_object(content: Row, path: Path) -> list[Any]:
    """The one list of rows in an object, such as ``{"data": […]}``; the hub's dataset server wraps
    each row once more.
    """
    lists = [content[key] for key in LIST_KEYS if isinstance(content.get(key), list)]
    if len(lists) != 1:
        raise ConfigError(
            f"{path}: a single object; write a list of objects, or one object per line"
        )
    return list(map(_unwrapped, lists[0]))


def _unwrapped(row: Any) -> Any:
    """The row inside ``{"row": {…}}``, any other row as it is."""
    if isinstance(row, dict) and isinstance(row.get("row"), dict):
        return row["row"]
    return row


def _csv_rows(text: str, path: Path) -> list[Row]:
    csv.field_size_limit(MOST_CELL_CHARS)
    header = text.split("\n", 1)[0]
    delimiter = max(DELIMITERS, key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = []
    try:
        for cells in reader:
            if None in cells:
                raise ConfigError(
                    f"{path}, line {reader.line_num}: more cells than the header has columns"
                )
            rows.append(dict(_typed_cells(cells)))
    except csv.Error as error:
        raise ConfigError(f"{path}, line {reader.line_num}: {error}") from None
    return rows


def _typed_cells(cells: dict[str, str | None]) -> Iterator[tuple[str, Any]]:
    """Cells as text, but for lists and objects, which a data frame writes as Python or JSON."""
    for name, cell in cells.items():
        value: Any = cell
        if cell is not None and cell.strip()[:1] in ("[", "{"):
            value = _parsed_cell(cell)
        yield name, value


def _parsed_cell(cell: str) -> Any:
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(cell.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(value, (list, dict)):
            return value
    return cell  # a text that only begins like a list


def _parquet_rows(path: Path) -> list[Row]:
    if importlib.util.find_spec("pyarrow") is None:
        raise ConfigError(f"{path}: reading it needs pip install 'agentflow_verl[parquet]'")
    import pyarrow.parquet

    try:
        rows: list[Row] = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path} is not a readable parquet file: {reason}") from None
    return rows
