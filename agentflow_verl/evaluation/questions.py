"""A question, the ten benchmarks and their capability groups, and how a file's rows are read.

A benchmark is one file: ``DIR/bamboogle.json`` (a JSON list, or as the reference implementation
lays them out: ``DIR/bamboogle/data/data.json``), or JSON lines, CSV, or the parquet file of a
training run. Any other name works too, so a user's own questions are a file with ``question``,
``answer`` and, where the name alone does not say how to score, ``data_source``.

A row in verl's form (``prompt``, ``reward_model``) is read as training reads it, with
``extra_info`` for its scorer and its prompt unchanged. In other rows the fields are found under the
names that data sets use, in any case: ``Problem`` and ``Answer``, or GPQA's ``Correct Answer``
beside its incorrect ones. The reference's files end a question with "When ready, output the final
answer enclosed in <answer> …"; that sentence is taken off, since the generator's prompt says it.
Options are shown in an order of their own (rewards/shuffle.py), and an answer's letter is mapped
back.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.evaluation.data_files import Row, find_files, read_rows
from agentflow_verl.flow.question import has_answer, parse_prompt, parse_row, without_numpy
from agentflow_verl.rewards.compute import score_answer
from agentflow_verl.rewards.options import read_options
from agentflow_verl.rewards.shuffle import shuffle

GROUPS = {
    "search": ("bamboogle", "2wiki", "hotpotqa", "musique"),
    "agentic": ("gaia",),
    "maths": ("aime24", "amc23", "gameof24"),
    "science": ("gpqa", "medqa"),
}
BENCHMARKS = tuple(chain.from_iterable(GROUPS.values()))

# The columns in which each part of a row is looked up; the first that has content counts. Names are
# compared in lower case with "_" for blanks.
IDS = ("pid", "task_id", "id", "idx", "_id", "record_id", "question_id", "unique_id")
TEXTS = ("query", "question", "problem", "prompt")
ANSWERS = (
    "answer",
    "final_answer",
    "answers",
    "ground_truth",
    "golden_answers",
    "correct_answer",
    "expected_answer",
    "answerkey",
    "answer_idx",
    "possible_answers",
)
OPTIONS = ("options", "choices")
INCORRECT = "incorrect_answer"  # GPQA: "Incorrect Answer 1" and so on
ATTACHMENTS = ("image", "images", "file_name")
# Columns that scorers or reports read in addition.
KEPT = ("level", "numbers", "target", "scorer", "answer_aliases", "aliases")
HIDDEN = "?"  # GAIA's gold answer in its test split
# Seed of the options' order: the same in every run, so that runs are compared on equal prompts.
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

    @property
    def scorer_extra(self) -> dict[str, Any]:
        """What a scorer reads: ``extra``, and the question itself."""
        return {"question": self.text, **self.extra}


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
    for group, names in GROUPS.items():
        if benchmark in names:
            return group
    return "own"


def load(name: str, folder: Path, limit: int | None = None) -> Benchmark:
    """The first ``limit`` questions of a benchmark; all of them without a limit.

    Raises:
        ConfigError: there is no file, no question, or a row without question or answer, or with an
            answer that its scorer cannot read.
    """
    paths = find_files(name, folder)
    digest = hashlib.sha256()
    rows: list[Row] = []
    for path in paths:
        digest.update(path.read_bytes())
        rows += map(normalized, read_rows(path))
    usable = [row for row in rows if not _needs_attachment(row)]
    if not usable:
        raise ConfigError(f"{paths[0]}: no questions")
    questions = []
    for key, row in zip(ids_of(usable), usable):
        try:
            question = read_question(name, row, key)
            # Score an empty answer: a row that cannot be scored fails here, before the run starts.
            score_answer(question.data_source, "", question.answer, question.scorer_extra)
        except ConfigError as error:
            raise ConfigError(f"{paths[0]}, id {key}: {error}") from None
        questions.append(question)
    left_out = len(rows) - len(usable)
    return Benchmark(name, paths[0], digest.hexdigest(), tuple(questions[:limit]), left_out)


def normalized(row: Row) -> Row:
    """The row without NumPy's types, its names in lower case with "_" for blanks."""
    renamed = {}
    for name, value in without_numpy(row).items():
        renamed[str(name).strip().lower().replace(" ", "_")] = value
    return renamed


def _needs_attachment(row: Row) -> bool:
    return any(has_content(row.get(key)) for key in ATTACHMENTS)


def has_content(value: Any) -> bool:
    return value not in (None, "", [], {})


def ids_of(rows: Sequence[Row]) -> list[str]:
    """The rows' ids: the first column of ``IDS`` that is unique, else the rows' numbers (MedQA's
    file repeats its ids).
    """
    for name in IDS:
        ids = [str(row[name]) for row in rows if has_content(row.get(name))]
        if len(set(ids)) == len(rows):
            return ids
    return [str(number) for number in range(len(rows))]


def read_question(benchmark: str, row: Row, key: str) -> Question:
    """One normalized row. Raises ConfigError with the part that is missing or wrong."""
    if row.get("reward_model") is not None:
        return _training_question(benchmark, row, key)
    text = question_text(row)
    answer, options = _answer(row), _options(row)
    extra = {name: row[name] for name in KEPT if row.get(name) is not None}
    if isinstance(row.get("extra_info"), dict):
        extra = {**row["extra_info"], **extra}
    if options is not None:
        # An integer is a position, as in MMLU; a letter or a text is mapped by the scorer.
        if isinstance(answer, int) and not isinstance(answer, bool):
            answer = _option_at(options, answer)
        extra["options"] = options
        text, extra["shown"] = shuffle(text, options, ORDER, f"{benchmark}/{key}")
    return Question(
        benchmark=benchmark,
        id=key,
        text=text,
        answer=answer,
        data_source=str(row.get("data_source") or benchmark),
        extra=extra,
    )


def question_text(row: Row) -> str:
    """The question of a normalized row, without the instruction about tags. Raises ConfigError
    where there is none.
    """
    for name in TEXTS:
        if isinstance(row.get(name), str) and row[name].strip():
            return INSTRUCTION.sub("", row[name]).strip()
    if has_content(row.get("prompt")):
        return parse_prompt(row["prompt"]).prompt_text
    raise ConfigError(f"no question; it is looked for under {', '.join(TEXTS)}")


def _training_question(benchmark: str, row: Row, key: str) -> Question:
    """A row in verl's form. The scorer reads the user's message alone, as in training."""
    parsed = parse_row(row)
    _check_gold(parsed.gold)
    return Question(
        benchmark=benchmark,
        id=key,
        text=parsed.question.prompt_text,
        answer=parsed.gold,
        data_source=parsed.data_source or benchmark,
        extra=parsed.scorer_extra,
    )


def _answer(row: Row) -> Any:
    for name in ANSWERS:
        if has_content(row.get(name)):
            _check_gold(row[name])
            return row[name]
    raise ConfigError(f"no answer; it is looked for under {', '.join(ANSWERS)}")


def _check_gold(gold: Any) -> None:
    if not has_answer(gold):
        raise ConfigError(f"the gold answer is {gold!r}")
    if isinstance(gold, str) and gold.strip() == HIDDEN:
        raise ConfigError(
            "the gold answer is '?': this split keeps its answers hidden; use the validation split"
        )


def _options(row: Row) -> Any:
    """The row's options, or GPQA's columns as a list whose first is the correct one."""
    for name in OPTIONS:
        if has_content(row.get(name)):
            return row[name]
    incorrect = []
    for name in sorted(row):
        if name.startswith(INCORRECT) and has_content(row[name]):
            incorrect.append(row[name])
    if incorrect and has_content(row.get("correct_answer")):
        return [row["correct_answer"], *incorrect]
    return None


def _option_at(options: Any, position: int) -> str:
    """The option at a position, counted from 0."""
    texts = list(read_options(options).values())
    if not 0 <= position < len(texts):
        raise ConfigError(
            f"the gold answer {position} is not a position among {len(texts)} options, counted"
            " from 0"
        )
    return texts[position]
