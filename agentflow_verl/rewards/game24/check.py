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
from agentflow_verl.rewards.game24.arithmetic import BadExpression, evaluate, plain_signs
from agentflow_verl.rewards.score import GroundTruth, Score, as_list, right, wrong

MAX_CHARS = 2_000

RUN = re.compile(r"(?:\\frac|[-+*/()=.0-9\s])+")
NO_MOVE = re.compile(r"[\^!%√|_]|\*\*|\\(?!frac)")
BRACKETED = re.compile(r"[\[(]\s*(\d+(?:\s*,\s*\d+)+)\s*[\])]")
BARE_NUMBERS = re.compile(r"\s*\d+(?:[\s,]+\d+)+\s*")
COUNT = (
    r"\$?(-?\d{1,9}(?:,\d{3})*(?:\.\d+)?)\$?(?![\d,]*\d)"
    r"(?!\s*(?:numbers?|integers?|digits?|cards?|times?|operations?|steps?|points?\b))"
)
FILLER = (
    r"(?:\s+(?:exactly|precisely|the|a|an|number|value|of|total|target|result|integer|up|at|as|is|be"
    r"|must|should|to|with|in|for|equal))*"
)
# Tried in this order: the more a wording says that its number is the target, the earlier.
TARGETS = (
    rf"\b(?:target|goal|aim)\b(?:\s+(?:number|value|result|sum|of|is|equals?|to))*\s*[:=]?\s*{COUNT}",
    rf"\b(?:equals?|equal(?:ling|ing)?|evaluat(?:es?|ing)|equates?|result(?:s|ing)?|sums?|add(?:s|ing)?|comes?|totals?"
    rf"|totalling|amounts?|works?\s+out|arriv(?:es?|ing)\s+at|yields?|yielding|giv(?:es?|ing)|produc(?:es?|ing)"
    rf"|obtain(?:s|ing)?|reach(?:es|ing)?|hits?|gets?|getting|mak(?:es?|ing)|form(?:s|ing)?|creat(?:es?|ing)"
    rf"|calculat(?:es?|ing)|comput(?:es?|ing)|achiev(?:es?|ing)|generat(?:es?|ing)|attain(?:s|ing)?)\b{FILLER}\s*[:=]?\s*{COUNT}",
    rf"\b(?:value|result|answer|total|outcome|expression\s+for|way\s+to|equation\s+for|solution\s+for)\b{FILLER}\s*[:=]?\s*{COUNT}",
    rf"(?:=|\bis)\s*{COUNT}(?=\s*(?:[.?!]|$|using|with|from|\bby\b))",
    r"\b(\d{1,4})[- ](?:point|points)?\s*(?:game|puzzle)",
    r"\bgame\s+of\s+(\d{1,4})\b",
)
LISTED = re.compile(
    r"\b(?:numbers?|digits?|integers?|cards?|values?|using|use|with|from|given|combine)\b(?:\s+(?:are|is|below|given|following|provided|available))*\s*[:=]?\s*"
    r"((?:\d{1,9}\s*(?:,\s*and\s+|,\s*|\s+and\s+|\s+))+(?:and\s+)?\d{1,9})(?![\d.]*\d)",
    re.IGNORECASE,
)
DEFAULT_TARGET = 24
EXAMPLE_KEYS = ("solution", "expression", "answer", "answers", "example")


@dataclass(frozen=True)
class Game:
    numbers: tuple[Fraction, ...]
    target: Fraction
    allow_subset: bool


def score_expression(answer: str, ground_truth: GroundTruth, **extra: Any) -> Score:
    """1 when ``answer`` makes the target from the numbers, each used once (at most once with
    ``allow_subset``).

    The numbers come from ``ground_truth["numbers"]``, else ``extra["numbers"]``, else
    ``extra["question"]`` (a list, or text naming them), else from an example expression in
    ``ground_truth``. The target is looked up the same way, and is 24 where none is stated and the
    data source is no countdown; ``allow_subset`` defaults to False.

    Raises:
        ConfigError: the row names no numbers, or a countdown no target, or question and example
            have different ones.
    """
    game = read_game(ground_truth, extra)
    if len(answer) > MAX_CHARS:
        return wrong(f"longer than {MAX_CHARS} characters")
    text = plain_signs(answer)
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
    if any(value != game.target for value, _ in members):
        shown = ", ".join(shown_value(value) for value, _ in members)
        return wrong(f"makes {shown}, not {game.target}")
    if any(uses(used, game) for _, used in members):
        return right(f"makes {game.target}")
    return wrong("does not use each number once")


def shown_value(value: Fraction | None) -> str:
    if value is None:
        return "a division by zero"
    return str(value)[:40]


def uses(used: list[Fraction], game: Game) -> bool:
    """Whether an expression takes its numbers from those of the game, by the game's rule."""
    spare = Counter(game.numbers)
    spare.subtract(Counter(used))
    left = spare.values()  # below zero where a number is used more often than it is there
    return bool(used) and min(left) >= 0 and (game.allow_subset or max(left) == 0)


def runs(text: str) -> list[str]:
    """The stretches of ``text`` that could be an expression among words; none where a sign is no
    move of the game.
    """
    # A numeral outside ASCII ("²", "½") would fall out of its stretch and change its value.
    if NO_MOVE.search(text) or any(sign.isnumeric() and not sign.isascii() for sign in text):
        return []
    found = []
    for match in RUN.finditer(text):
        run = match.group().strip().strip(".=").strip()
        combines = re.search(r"[-+*/]|\\frac|\)\s*\(", run)
        if combines and len(re.findall(r"[0-9]+", run)) > 1 and not glued(text, match):
            found.append(run)
    return found


def glued(text: str, match: re.Match[str]) -> bool:
    """Whether a letter touches the stretch: "8+16x" is not "8+16"."""
    run = match.group()
    before, after = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
    if after.isalpha() and not run[-1].isspace():
        return True
    return before.isalpha() and not run[0].isspace()


def read_game(ground_truth: GroundTruth, extra: Mapping[str, Any]) -> Game:
    """The numbers, target and subset rule of one row; see ``score_expression`` for where they are
    looked up.
    """
    if isinstance(ground_truth, Mapping):
        gold = ground_truth
    else:
        gold = {}
    stated = [gold, extra]
    if isinstance(extra.get("metadata"), Mapping):  # Reasoning Gym keeps them there
        stated.append(extra["metadata"])
    question = extra.get("question")
    text = ""
    if isinstance(question, str):
        text = question
    example = example_solution(ground_truth)
    numbers = stated_numbers(stated, question, example)
    if not numbers:
        raise ConfigError(
            'the 24-game needs its numbers: ground_truth {"numbers": [4, 4, 10, 10], "target":'
            f" 24}}, or a question that lists them; got {str(ground_truth)[:80]!r}"
        )
    target = stated_value(stated, "target")
    if target is None:
        target = target_of(text, example, str(extra.get("data_source") or ""))
    subset = stated_value(stated, "allow_subset")
    return Game(tuple(numbers), as_fraction(target), bool(subset))


def stated_value(records: list[Mapping[str, Any]], key: str) -> Any:
    """The value under ``key`` in the first record that states one."""
    for record in records:
        if record.get(key) is not None:
            return record[key]
    return None


def stated_numbers(records: list[Mapping[str, Any]], question: Any, example: str) -> list[Fraction]:
    for record in records:
        found = as_numbers(record.get("numbers"))
        if found:
            return found
    if isinstance(question, str):
        found = numbers_in(question)
    else:
        found = as_numbers(question)
    return found or numbers_of_example(example)


def target_of(question: str, example: str, data_source: str) -> Fraction:
    """The target that the question states, else the value of the example solution, else 24.

    Raises:
        ConfigError: the two differ, or a countdown states neither.
    """
    asked = asked_target(question)
    shown = value_of_example(example)
    if asked is not None and shown is not None and asked != shown:
        raise ConfigError(
            f"the question asks for {asked} and the example solution makes {shown}: correct the"
            ' row, or state the target as ground_truth {"numbers": [...], "target": ...}'
        )
    found = shown
    if asked is not None:
        found = asked
    if found is not None:
        return found
    if "countdown" in data_source.lower():
        raise ConfigError(
            "a countdown needs its target, which the question does not state in a known wording:"
            ' add "target" to ground_truth or extra_info'
        )
    return Fraction(DEFAULT_TARGET)


def asked_target(question: str) -> Fraction | None:
    """The target in a question's words ("make 24", "equals 65", "Target: 952"), None without
    one.
    """
    # The numbers to combine are taken out first, so that none of them is read as the target.
    text = BRACKETED.sub(" ", question[:MAX_CHARS])
    text = LISTED.sub(" ", text)
    for pattern in TARGETS:
        match = re.search(pattern, text, re.IGNORECASE)
        if match:
            return Fraction(match.group(1).replace(",", ""))
    return None


def as_numbers(value: Any) -> list[Fraction]:
    if value is None:
        return []
    if isinstance(value, str):
        return numbers_in(value)
    return list(map(as_fraction, as_list(value)))


def as_fraction(value: Any) -> Fraction:
    try:
        return Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f"the 24-game needs plain numbers, got {str(value)[:40]!r}") from None


def numbers_in(text: str) -> list[Fraction]:
    """The first bracketed list of ``text``, else the first that follows "numbers", or all of it
    when it is only numbers.
    """
    text = text[:MAX_CHARS]
    listed = BRACKETED.search(text) or LISTED.search(text)
    if listed:
        found = listed.group(1)
    elif BARE_NUMBERS.fullmatch(text):
        found = text
    else:
        found = ""
    return list(map(Fraction, re.findall(r"[0-9]{1,18}", found)))


def example_solution(ground_truth: Any) -> str:
    """The first example expression of a gold answer, in plain signs; "" without one."""
    gold = ground_truth
    if isinstance(ground_truth, Mapping):
        gold = next((ground_truth[key] for key in EXAMPLE_KEYS if key in ground_truth), None)
    examples = as_list(gold)
    example = ""
    if examples and gold is not None:
        example = plain_signs(str(examples[0])[:MAX_CHARS])
    if re.search(r"[0-9]", example):
        return example
    return ""


def numbers_of_example(example: str) -> list[Fraction]:
    """The numbers that an example expression uses: the benchmark file's form."""
    if not example:
        return []
    try:
        used = evaluate(example.split("=")[0])[1]
    except BadExpression:
        return numbers_in(example)
    if len(used) > 1:
        return used
    return []


def value_of_example(example: str) -> Fraction | None:
    """What an example expression makes; None where it is only a list of numbers, or no
    expression.
    """
    if not example:
        return None
    try:
        value, used = evaluate(example.split("=")[0])
    except BadExpression:
        return None
    if len(used) > 1:
        return value
    return None
