r"""The 24-game and its kin: does this expression use the given numbers and make the target?

The answer is read by the grammar of ``arithmetic.py``. A ``= 24`` may stand at either end, and a
chain of equal expressions may lead there; every member of a chain must make the target. Words
around one expression are passed over.

Blind spots: two different expressions in one answer are refused even if both are right; powers,
roots, factorials and concatenated digits are not moves of the game; whether a solution exists at
all is not asked ("impossible" scores 0).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.rewards.game24.arithmetic import BadExpression, evaluate, plain
from agentflow_verl.rewards.score import GroundTruth, Score, as_list, right, wrong

MAX_CHARS = 2_000

RUN = re.compile(r"(?:\\frac|[-+*/()=.0-9\s])+")
NO_MOVE = re.compile(r"[\^!%√|_]|\*\*|\\(?!frac)")
BRACKETED = re.compile(r"[\[(]\s*(\d+(?:\s*,\s*\d+)+)\s*[\])]")
BARE_NUMBERS = re.compile(r"\s*\d+(?:[\s,]+\d+)+\s*")
TARGET = re.compile(
    r"(?:equals?(?:\s+to)?|makes?|obtain|reach|target(?:\s+is|\s+of|:)?)\s+(\d+)", re.IGNORECASE
)


@dataclass(frozen=True)
class Game:
    numbers: tuple[Fraction, ...]
    target: Fraction
    allow_subset: bool


def score(answer: str, ground_truth: GroundTruth, **extra: Any) -> Score:
    """1 when ``answer`` makes the target from the numbers, each used once (at most once with
    ``allow_subset``).

    The numbers come from ``ground_truth["numbers"]``, else ``extra["numbers"]``, else
    ``extra["question"]`` (a list, or text naming them), else from an example expression in
    ``ground_truth``. The target is looked up the same way and defaults to 24; ``allow_subset`` to
    False.

    Raises:
        ConfigError: the row names no numbers.
    """
    game = read_game(ground_truth, extra)
    if len(answer) > MAX_CHARS:
        return wrong(f"longer than {MAX_CHARS} characters")
    text = plain(answer)
    try:
        return judge(text, game)
    except BadExpression as error:
        expressions = {run for run in runs(text) if run != text}
        if len(expressions) != 1:
            return wrong("several expressions in one answer" if expressions else str(error))
    try:
        return judge(expressions.pop(), game)
    except BadExpression as error:
        return wrong(str(error))


def judge(text: str, game: Game) -> Score:
    """Judge a chain ``a = b = …``: each member makes the target, and one of them uses the numbers.

    Raises:
        BadExpression: a member is not an expression.
    """
    members = [evaluate(member) for member in text.split("=")]
    values = {value for value, _ in members}
    if values != {game.target}:
        shown = ", ".join(
            "a division by zero" if value is None else str(value)[:40] for value, _ in members
        )
        return wrong(f"makes {shown}, not {game.target}")
    if any(uses(used, game) for _, used in members):
        return right(f"makes {game.target}")
    return wrong("does not use each number once")


def uses(used: list[Fraction], game: Game) -> bool:
    spare = Counter(game.numbers)
    spare.subtract(Counter(used))
    left = spare.values()
    return bool(used) and min(left) >= 0 and (game.allow_subset or max(left) == 0)


def runs(text: str) -> list[str]:
    """The stretches of ``text`` that could be an expression among words; none where a sign is no
    move of the game.
    """
    if NO_MOVE.search(text) or any(sign.isnumeric() and not sign.isascii() for sign in text):
        return []
    apart = (match for match in RUN.finditer(text) if not glued(text, match))
    found = (match.group().strip().strip(".=").strip() for match in apart)
    return [
        run
        for run in found
        if len(re.findall(r"[0-9]+", run)) > 1 and re.search(r"[-+*/]|\\frac|\)\s*\(", run)
    ]


def glued(text: str, match: re.Match[str]) -> bool:
    """Whether a letter touches the stretch: "8+16x" is not "8+16"."""
    return (text[match.end() : match.end() + 1].isalpha() and not match.group()[-1].isspace()) or (
        text[match.start() - 1 : match.start()].isalpha() and not match.group()[0].isspace()
    )


def read_game(ground_truth: GroundTruth, extra: Mapping[str, Any]) -> Game:
    """The numbers, target and subset rule of one row; see ``score`` for where they are looked up."""
    gold = ground_truth if isinstance(ground_truth, Mapping) else {}
    question = extra.get("question")
    text = question if isinstance(question, str) else ""
    numbers = next(
        (
            found
            for found in (
                as_numbers(gold.get("numbers")),
                as_numbers(extra.get("numbers")),
                numbers_in(text) if text else as_numbers(question),
                from_example(ground_truth),
            )
            if found
        ),
        None,
    )
    if not numbers:
        raise ConfigError(
            'the 24-game needs its numbers: ground_truth {"numbers": [4, 4, 10, 10], "target":'
            f" 24}}, or a question that lists them; got {str(ground_truth)[:80]!r}"
        )
    asked = TARGET.search(text)
    target = gold.get("target", extra.get("target", asked.group(1) if asked else 24))
    subset = gold.get("allow_subset", extra.get("allow_subset", False))
    return Game(tuple(numbers), as_fraction(target), bool(subset))


def as_numbers(value: Any) -> list[Fraction]:
    if value is None:
        return []
    if isinstance(value, str):
        return numbers_in(value)
    return [as_fraction(item) for item in as_list(value)]


def as_fraction(value: Any) -> Fraction:
    try:
        return Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f"the 24-game needs plain numbers, got {str(value)[:40]!r}") from None


def numbers_in(text: str) -> list[Fraction]:
    """The first bracketed list of ``text``, or all of it when it is only numbers."""
    listed = BRACKETED.search(text[:MAX_CHARS])
    found = listed.group(1) if listed else text if BARE_NUMBERS.fullmatch(text[:MAX_CHARS]) else ""
    return [Fraction(digits) for digits in re.findall(r"[0-9]{1,18}", found)]


def from_example(ground_truth: Any) -> list[Fraction]:
    """The numbers of the first example expression: the benchmark file's form."""
    if isinstance(ground_truth, Mapping):
        return []
    example = plain(str(as_list(ground_truth)[0])[:MAX_CHARS]) if as_list(ground_truth) else ""
    if not re.search(r"[0-9]", example):
        return []
    try:
        used = evaluate(example.split("=")[0])[1]
    except BadExpression:
        return numbers_in(example)
    return used if len(used) > 1 else []
