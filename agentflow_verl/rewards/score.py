"""The result of a scorer, and how every scorer reads its gold answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Union

from agentflow_verl.core.errors import ConfigError

GroundTruth = Union[str, int, float, "list[str]", "dict[str, Any]"]

GOLD_KEYS = ("target", "answers", "answer", "aliases")


@dataclass(frozen=True)
class Score:
    """One judged answer.

    ``value`` is the outcome reward, 0.0 or 1.0. ``exact`` is 1.0 when the answer equals a gold
    answer under the scorer's rule. ``f1`` is the token overlap in [0, 1] where the scorer defines
    one, else None. ``reason`` says in a few words what decided.
    """

    value: float
    exact: float
    f1: float | None
    reason: str


def right(reason: str, f1: float | None = None) -> Score:
    return Score(1.0, 1.0, f1, reason)


def wrong(reason: str, f1: float | None = None) -> Score:
    return Score(0.0, 0.0, f1, reason)


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

    A dict is read at the keys ``target`` (Search-R1's form), ``answers``, ``answer`` and
    ``aliases``.

    Raises:
        ConfigError: no answer is there. The dataset row is wrong, so no reward may be made from it.
    """
    if isinstance(ground_truth, Mapping):
        found: Iterable[Any] = (
            item for key in GOLD_KEYS if key in ground_truth for item in as_list(ground_truth[key])
        )
    else:
        found = as_list(ground_truth)
    answers = [str(item) for item in found if item is not None and str(item).strip()]
    if not answers:
        raise ConfigError(
            f"no gold answer in ground_truth {str(ground_truth)[:80]!r}: give a string, a number, a"
            f" list of them, or a dict with one of {', '.join(GOLD_KEYS)}"
        )
    return answers
