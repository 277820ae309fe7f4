"""Where training questions come from, each read into the same ``Row``.

nq         Natural Questions as Search-R1 trains on it (RUC-NLPIR/FlashRAG_datasets):
           ``question``, ``golden_answers``
deepmath   DeepMath-103K (zwhe99/DeepMath-103K): ``question``, ``final_answer``,
           ``difficulty``, ``topic``
a user's   JSON lines: ``question``, ``answer`` (one or a list), ``data_source``; ``scorer``,
           ``options``, ``numbers`` and ``target`` where the scorer needs them
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.rewards.compute import score_answer
from agentflow_verl.rewards.score import as_list, gold_answers

HUB = {
    "nq": "hf://datasets/RUC-NLPIR/FlashRAG_datasets/nq/train.jsonl",
    "deepmath": "hf://datasets/zwhe99/DeepMath-103K/data/train-*.parquet",
}
COLUMNS = {
    "nq": ("question", "golden_answers"),
    "deepmath": ("question", "final_answer", "difficulty", "topic"),
}
EXTRA = ("scorer", "options", "numbers", "target")


@dataclass(frozen=True)
class Row:
    """One question. ``id`` names the place it was read from; ``extra`` is what its scorer or a
    filter reads.
    """

    source: str
    id: str
    question: str
    answers: tuple[str, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)


def read(name: str, place: str) -> Iterator[Row]:
    """The rows of ``nq`` or ``deepmath``: a hub address, a JSON-lines or parquet file, or a folder
    of such.

    Raises:
        ConfigError: the place cannot be read, or has other columns.
    """
    from datasets import load_dataset  # takes seconds to import

    files, kind = locate(place)
    columns = list(COLUMNS[name])
    options = (
        {"columns": columns} if kind == "parquet" else {}
    )  # DeepMath's solutions, 5 GB, are not wanted
    try:
        table = load_dataset(kind, data_files=files, split="train", **options).select_columns(
            columns
        )
    except Exception as wrong:  # whatever the hub, the file system or a parser raises
        advice = (
            f"give a local copy with --{name} PATH, a file with the columns {', '.join(columns)}"
        )
        raise ConfigError(
            f"{name}: {place} cannot be read: {first_line(wrong)}; {advice}"
        ) from wrong
    for number, row in enumerate(table):
        if name == "nq":
            yield Row(
                name, f"nq-{number}", text_of(row["question"]), texts_of(row["golden_answers"])
            )
        else:
            extra = {"difficulty": row["difficulty"], "topic": row["topic"]}
            yield Row(
                name,
                f"deepmath-{number}",
                text_of(row["question"]),
                texts_of(row["final_answer"]),
                extra,
            )


def locate(place: str) -> tuple[list[str], str]:
    """The files at a place, and the reader for them."""
    path = Path(place).expanduser()
    if "://" in place:
        files = [place]
    elif path.is_dir():
        files = sorted(
            str(file) for file in path.rglob("*") if file.suffix in (".parquet", ".jsonl", ".json")
        )
    else:
        files = [str(path)] if path.is_file() else []
    if not files:
        raise ConfigError(
            f"{place}: there is no such file, and no folder with .parquet or .jsonl files"
        )
    kinds = {"parquet" if file.endswith(".parquet") else "json" for file in files}
    if len(kinds) > 1:
        raise ConfigError(f"{place}: both parquet and JSON files; name one of them")
    return files, kinds.pop()


def read_user(path: Path) -> Iterator[Row]:
    """A user's JSON lines. Raises ConfigError with file and line for a row that could not be
    trained on.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file")
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as wrong:
            raise ConfigError(f"{where}: not JSON: {wrong}") from None
        if not isinstance(row, dict):
            raise ConfigError(
                f"{where}: {type(row).__name__}, not an object with question, answer and"
                " data_source"
            )
        missing = [
            key for key in ("question", "answer", "data_source") if row.get(key) in (None, "", [])
        ]
        if missing:
            raise ConfigError(f"{where}: no {' and no '.join(missing)}")
        extra = {key: row[key] for key in EXTRA if row.get(key) is not None}
        found = Row(
            str(row["data_source"]),
            f"{path.stem}-{number}",
            text_of(row["question"]),
            texts_of(row["answer"]),
            extra,
        )
        try:
            score_answer(
                found.source, "", list(found.answers), {**extra, "question": found.question}
            )
        except ConfigError as wrong:
            raise ConfigError(f"{where}: {wrong}") from None
        yield found


def text_of(value: Any) -> str:
    return str(value or "").strip()


def texts_of(value: Any) -> tuple[str, ...]:
    """Every answer as text; none where there is none."""
    try:
        return tuple(answer.strip() for answer in gold_answers(as_list(value)))
    except ConfigError:
        return ()


def first_line(wrong: Exception) -> str:
    return (str(wrong).splitlines() or [type(wrong).__name__])[0][:200]
