"""The result of a scorer, and how every scorer reads its gold answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Union

from agentflow_verl.core.errors import ConfigError

GroundTruth = Union[str, int, float, "list[str]", "dict[str, Any]"]

GOLD_KEYS = (
    "target", "answers", "answer", "final_answer", "value", "text", "aliases", "answer_aliases",
    "normalized_aliases",
    "possible_answers",
)  # fmt: skip
SOLUTION_MARK = "####"
"""GSM8K's gold answers are solutions; the answer stands behind this mark (arXiv 2110.14168)."""


@dataclass(frozen=True)
class Score:
    """One judged answer.

    ``value`` is the outcome reward in [0, 1]; ``reason`` says in a few words what decided. Short
    answers also have the figures that their benchmarks report, whichever of them is the reward:
    ``em`` and ``f1``, SQuAD's exact match and token F1 (``qa/squad.py``), and ``lenient``, the
    match of ``qa/match.py``. They are None for every other scorer.
    """

    value: float
    reason: str
    em: float | None = None
    f1: float | None = None
    lenient: float | None = None

    @property
    def exact(self) -> float:
        """The standard exact match where there is one, else the scorer's own verdict."""
        if self.em is None:
            return self.value
        return self.em

    @property
    def details(self) -> dict[str, Any]:
        """The figures beside the reward; verl leaves the ones that are None out of its means."""
        return {"em": self.em, "f1": self.f1, "lenient": self.lenient, "reason": self.reason}


def right(reason: str) -> Score:
    return Score(1.0, reason)


def wrong(reason: str) -> Score:
    return Score(0.0, reason)


def as_list(value: Any) -> list[Any]:
    """``value`` as a plain list: parquet hands lists back as arrays, and one answer may come
    without a list.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    return [value]


def gold_answers(ground_truth: GroundTruth) -> list[str]:
    """Every accepted answer as text, from a string, a number, a list of them, or a dict holding
    either.

    A dict is read at ``GOLD_KEYS``: Search-R1's ``target``, TriviaQA's ``value`` and ``aliases``,
    SQuAD's ``text``, MuSiQue's ``answer`` and ``answer_aliases``, PopQA's ``possible_answers`` (a
    list written as JSON). Of a GSM8K solution the part behind ``####`` is taken.

    Raises:
        ConfigError: no answer is there. The dataset row is wrong, so no reward may be made from it.
    """
    answers: list[str] = []
    for text in gold_texts(ground_truth, depth=0):
        if SOLUTION_MARK in text:
            text = text.rpartition(SOLUTION_MARK)[2]
        if text.strip() and text not in answers:
            answers.append(text)
    if not answers:
        raise ConfigError(
            f"no gold answer in ground_truth {str(ground_truth)[:80]!r}: give a string, a number, a"
            f" list of them, or a dict with one of {', '.join(GOLD_KEYS)}"
        )
    return answers


def gold_texts(value: Any, depth: int) -> Iterator[str]:
    if value is None or depth > 4:  # no known data set nests deeper
        return
    if isinstance(value, Mapping):
        for key in GOLD_KEYS:
            if key in value:
                yield from gold_texts(value[key], depth + 1)
        return
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from gold_texts(item, depth + 1)
        return
    texts = None
    if isinstance(value, str):
        texts = json_texts(value)
    if texts is None:
        yield str(value)
    else:
        yield from texts


def json_texts(text: str) -> list[str] | None:
    """The texts of a JSON list of texts, as PopQA has them; None for any other text."""
    if not text.startswith('["') or not text.endswith('"]'):
        return None
    try:
        found: list[Any] = json.loads(text)
    except ValueError:
        return None
    if all(isinstance(item, str) for item in found):
        return found
    return None
