r"""The 24-game and its kin: does this expression use the given numbers and make the target?

Model text is tokenised here and evaluated exactly with ``Fraction``; nothing is ever handed to Python's ``eval``.

    expression  = term (("+" | "-") term)*
    term        = factor (("*" | "/") factor | factor)*       a missing sign before "(" or after ")" multiplies
    factor      = ("-" | "+") factor | number | "(" expression ")" | \frac group group

Accepted writings: × · ∙ ∗ ÷ − – — and their LaTeX names, ``\left(``, square and curly brackets, ``$…$``, and a
``= 24`` at either end or a chain of equal expressions. Every member of a chain must make the target.

Blind spots: two different expressions in one answer are refused even if both are right; powers, roots, factorials and
concatenated digits are not moves of the game; whether a solution exists at all is not asked ("impossible" scores 0).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from agentflow_verl.errors import ConfigError
from agentflow_verl.rewards.score import GroundTruth, Score, as_list, right, wrong

MAX_CHARS = 2_000
MAX_DEPTH = 40
MAX_NUMBERS = 64
MAX_DIGITS = 18

WRITINGS = [
    (re.compile(r"\\[dt]frac"), r"\\frac"),
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])|[×·∙⋅∗✕✖]"), "*"),
    (re.compile(r"\\div(?![a-zA-Z])|[÷∕⁄]"), "/"),
    (re.compile(r"[−–—‐‑﹣-]"), "-"),
    (re.compile(r"[＋]"), "+"),
    (re.compile(r"\\(?:left|right|big|Big|displaystyle)(?![a-zA-Z])|\\[()\[\],;! ]|\\boxed|[$`]"), " "),
    (re.compile(r"^[\s*]+|[\s*]+$"), ""),  # emphasis around the whole; inside, ** is a power and no move
    (re.compile(r"(?<=[0-9)\s])[xX](?=[\s(0-9])"), "*"),
    (re.compile(r"[（]"), "("),
    (re.compile(r"[）]"), ")"),
    (re.compile(r"\\?[{\[]"), "("),
    (re.compile(r"\\?[}\]]"), ")"),
]
TOKEN = re.compile(r"[0-9]+(?:\.[0-9]+)?|\\frac|[-+*/()]")
RUN = re.compile(r"(?:\\frac|[-+*/()=.0-9\s])+")
NO_MOVE = re.compile(r"[\^!%√|_]|\*\*|\\(?!frac)")
BRACKETED = re.compile(r"[\[(]\s*(\d+(?:\s*,\s*\d+)+)\s*[\])]")
BARE_NUMBERS = re.compile(r"\s*\d+(?:[\s,]+\d+)+\s*")
TARGET = re.compile(r"(?:equals?(?:\s+to)?|makes?|obtain|reach|target(?:\s+is|\s+of|:)?)\s+(\d+)", re.IGNORECASE)


class BadExpression(ValueError):
    """The text is not an expression of the game."""


@dataclass(frozen=True)
class Game:
    numbers: tuple[Fraction, ...]
    target: Fraction
    allow_subset: bool


def score(answer: str, ground_truth: GroundTruth, **extra: Any) -> Score:
    """1 when ``answer`` makes the target from the numbers, each used once (at most once with ``allow_subset``).

    The numbers come from ``ground_truth["numbers"]``, else ``extra["numbers"]``, else ``extra["question"]`` (a list,
    or text naming them), else from an example expression in ``ground_truth``. The target is looked up the same way
    and defaults to 24; ``allow_subset`` to False.

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
        shown = ", ".join("a division by zero" if value is None else str(value)[:40] for value, _ in members)
        return wrong(f"makes {shown}, not {game.target}")
    if any(uses(used, game) for _, used in members):
        return right(f"makes {game.target}")
    return wrong("does not use each number once")


def uses(used: list[Fraction], game: Game) -> bool:
    spare = Counter(game.numbers)
    spare.subtract(Counter(used))
    left = spare.values()
    return bool(used) and min(left) >= 0 and (game.allow_subset or max(left) == 0)


def plain(text: str) -> str:
    """``text`` in the grammar's own signs, without the full stop of a sentence."""
    for pattern, sign in WRITINGS:
        text = pattern.sub(sign, text)
    return text.strip().rstrip(".,;!").strip()


def runs(text: str) -> list[str]:
    """The stretches of ``text`` that could be an expression among words; none where a sign is no move of the game."""
    if NO_MOVE.search(text) or any(sign.isnumeric() and not sign.isascii() for sign in text):
        return []
    apart = (match for match in RUN.finditer(text) if not glued(text, match))
    found = (match.group().strip().strip(".=").strip() for match in apart)
    return [run for run in found if len(re.findall(r"[0-9]+", run)) > 1 and re.search(r"[-+*/]|\\frac|\)\s*\(", run)]


def glued(text: str, match: re.Match[str]) -> bool:
    """Whether a letter touches the stretch: "8+16x" is not "8+16"."""
    return (text[match.end() : match.end() + 1].isalpha() and not match.group()[-1].isspace()) or (
        text[match.start() - 1 : match.start()].isalpha() and not match.group()[0].isspace()
    )


def evaluate(text: str) -> tuple[Fraction | None, list[Fraction]]:
    """The exact value of ``text`` (None when it divides by zero) and the numbers it uses.

    Raises:
        BadExpression: not of the grammar, or beyond ``MAX_DEPTH``, ``MAX_NUMBERS`` or ``MAX_DIGITS``.
    """
    parser = Parser(tokenize(text))
    value = parser.expression(0)
    if parser.peek():
        raise BadExpression(f"unexpected {parser.peek()!r}")
    return value, parser.used


def tokenize(text: str) -> list[str]:
    tokens, position = [], 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        match = TOKEN.match(text, position)
        if not match:
            raise BadExpression(f"not arithmetic: {text[position : position + 20]!r}")
        tokens.append(match.group())
        position = match.end()
    return tokens


class Parser:
    """Recursive descent over tokens. Division by zero makes the value None and parsing goes on."""

    def __init__(self, tokens: list[str]):
        self.tokens = tokens
        self.position = 0
        self.used: list[Fraction] = []

    def peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.position += 1
        return token

    def expression(self, depth: int) -> Fraction | None:
        value = self.term(depth)
        while self.peek() in ("+", "-"):
            value = combine(self.take(), value, self.term(depth))
        return value

    def term(self, depth: int) -> Fraction | None:
        value = self.factor(depth)
        while True:
            token = self.peek()
            if token in ("*", "/"):
                value = combine(self.take(), value, self.factor(depth))
            elif token in ("(", "\\frac") or (token[:1].isdigit() and self.tokens[self.position - 1] == ")"):
                value = combine("*", value, self.factor(depth))
            else:
                return value

    def factor(self, depth: int) -> Fraction | None:
        if depth > MAX_DEPTH:
            raise BadExpression(f"nested deeper than {MAX_DEPTH}")
        token = self.take()
        if token in ("-", "+"):
            return combine(token, Fraction(0), self.factor(depth + 1))
        if token == "(":
            return self.closed(depth)
        if token == "\\frac":
            above = self.group(depth)
            return combine("/", above, self.group(depth))
        if token[:1].isdigit():
            return self.number(token)
        raise BadExpression(f"a number is missing before {token!r}" if token else "the expression is incomplete")

    def group(self, depth: int) -> Fraction | None:
        if self.take() != "(":
            raise BadExpression(r"\frac needs two groups in braces")
        return self.closed(depth)

    def closed(self, depth: int) -> Fraction | None:
        value = self.expression(depth + 1)
        if self.take() != ")":
            raise BadExpression("a bracket is not closed")
        return value

    def number(self, token: str) -> Fraction:
        if len(token) > MAX_DIGITS or len(self.used) == MAX_NUMBERS:
            raise BadExpression(f"more than {MAX_NUMBERS} numbers, or one beyond {MAX_DIGITS} digits")
        self.used.append(Fraction(token))
        return self.used[-1]


def combine(sign: str, left: Fraction | None, right: Fraction | None) -> Fraction | None:
    if left is None or right is None or (sign == "/" and right == 0):
        return None
    if sign == "+":
        return left + right
    if sign == "-":
        return left - right
    return left * right if sign == "*" else left / right


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
            'the 24-game needs its numbers: ground_truth {"numbers": [4, 4, 10, 10], "target": 24}, '
            f"or a question that lists them; got {str(ground_truth)[:80]!r}"
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
