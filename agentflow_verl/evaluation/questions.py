"""A question, the ten benchmarks and their capability groups, and how their files are read.

A benchmark is one file: ``DIR/bamboogle.json`` (a JSON list, as the reference implementation has
it, or as it lays them out: ``DIR/bamboogle/data/data.json``) or ``DIR/bamboogle.jsonl``. Any other
name works too, so a user's own questions are a file with ``question``, ``answer`` and, where the
name alone does not say how to score, ``data_source``.

Fields are found under the names that the ten files use. The reference's files end a question with
"When ready, output the final answer enclosed in <answer> …"; that sentence is taken off, since the
generator's prompt says it. Options are shown in an order of their own (rewards/shuffle.py), and an
answer's letter is mapped back.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.rewards.compute import score_answer
from agentflow_verl.rewards.shuffle import shuffle

GROUPS = {
    "search": ("bamboogle", "2wiki", "hotpotqa", "musique"),
    "agentic": ("gaia",),
    "maths": ("aime24", "amc23", "gameof24"),
    "science": ("gpqa", "medqa"),
}
BENCHMARKS = tuple(name for names in GROUPS.values() for name in names)

IDS = ("pid", "task_id", "id", "idx")
TEXTS = ("query", "question", "Question", "problem")
ANSWERS = ("answer", "Final answer", "answers", "ground_truth", "golden_answers")
OPTIONS = ("options", "choices")
KEPT = (
    "level",
    "Level",
    "numbers",
    "target",
    "scorer",
)  # what scorers or reports read beside these
# seed of the options' order: the same in every run, so that runs are compared on equal prompts
ORDER = 0
INSTRUCTION = re.compile(
    r"\s*When ready, output the final answer enclosed in <answer> and </answer> tags\..*\Z",
    re.DOTALL,
)


@dataclass(frozen=True)
class Question:
    """One question of a benchmark. ``extra`` is what its scorer reads beside the answer."""

    benchmark: str
    id: str
    text: str
    answer: Any
    data_source: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Its name in the log; unique over all benchmarks."""
        return f"{self.benchmark}/{self.id}"


@dataclass(frozen=True)
class Benchmark:
    """A file of questions. ``left_out`` counts rows that need an attachment or a picture, which the
    tools cannot open.
    """

    name: str
    path: Path
    sha256: str
    questions: tuple[Question, ...]
    left_out: int = 0


def group_of(benchmark: str) -> str:
    """The capability group; "own" for a benchmark that is none of the ten."""
    return next((group for group, names in GROUPS.items() if benchmark in names), "own")


def load(name: str, folder: Path, limit: int | None = None) -> Benchmark:
    """The first ``limit`` questions of a benchmark, all without one.

    Raises:
        ConfigError: no file, no questions, or a row without question or answer, or one that its
            scorer cannot judge.
    """
    path = find(name, folder)
    content = path.read_bytes()
    rows = parse(content.decode("utf-8"), path)
    usable = [row for row in rows if not row.get("image") and not row.get("file_name")]
    if not usable:
        raise ConfigError(f"{path}: no questions")
    questions = [
        _question(name, row, key, f"{path}, id {key}") for key, row in zip(ids_of(usable), usable)
    ]
    return Benchmark(
        name,
        path,
        hashlib.sha256(content).hexdigest(),
        tuple(questions[:limit]),
        len(rows) - len(usable),
    )


def find(name: str, folder: Path) -> Path:
    """The file of a benchmark. ``ConfigError`` with the names that are there."""
    places = [
        folder / f"{name}.json",
        folder / f"{name}.jsonl",
        folder / name / "data" / "data.json",
    ]
    for path in places:
        if path.is_file():
            return path
    there = sorted({path.stem for path in (*folder.glob("*.json"), *folder.glob("*.jsonl"))})
    raise ConfigError(
        f"benchmark {name!r}: none of {', '.join(map(str, places))} is there; {folder} has"
        f" {', '.join(there) or 'no such files'}"
    )


def parse(text: str, path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON list, or of JSON lines."""
    try:
        rows = (
            json.loads(text)
            if text.lstrip().startswith("[")
            else [json.loads(line) for line in text.split("\n") if line.strip()]
        )
    except ValueError as wrong:
        raise ConfigError(f"{path}: neither a JSON list nor JSON lines: {wrong}") from None
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ConfigError(
                f"{path}, row {number}: {type(row).__name__}, not an object with question and"
                " answer"
            )
    return rows


def ids_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows' ids: the first of ``IDS`` that tells them all apart, else their numbers (MedQA's
    file repeats its ids).
    """
    for name in IDS:
        ids = [str(row.get(name)) for row in rows]
        if all(row.get(name) is not None for row in rows) and len(set(ids)) == len(rows):
            return ids
    return [str(number) for number in range(len(rows))]


def _question(benchmark: str, row: dict[str, Any], key: str, where: str) -> Question:
    text = next(
        (row[name] for name in TEXTS if isinstance(row.get(name), str) and row[name].strip()), None
    )
    answer = next((row[name] for name in ANSWERS if row.get(name) not in (None, "", [])), None)
    if text is None or answer is None:
        missing, names = ("question", TEXTS) if text is None else ("answer", ANSWERS)
        raise ConfigError(f"{where}: no {missing}; it is looked for under {', '.join(names)}")
    text = INSTRUCTION.sub("", text).strip()
    extra = {name.lower(): row[name] for name in KEPT if name in row}
    options = next((row[name] for name in OPTIONS if row.get(name)), None)
    if options is not None:
        extra["options"] = options
        text, extra["shown"] = shuffle(text, options, ORDER, f"{benchmark}/{key}")
    question = Question(
        benchmark=benchmark,
        id=key,
        text=text,
        answer=answer,
        data_source=str(row.get("data_source") or benchmark),
        extra=extra,
    )
    try:  # a row that cannot be judged is known before anything is asked
        score_answer(question.data_source, "", question.answer, {**extra, "question": text})
    except ConfigError as wrong:
        raise ConfigError(f"{where}: {wrong}") from None
    return question
