r"""Plain arithmetic read from a model's text and evaluated exactly, without Python's ``eval``.

    expression  = term (("+" | "-") term)*
    term        = factor (("*" | "/") factor | factor)*
    factor      = ("-" | "+") factor | number | "(" expression ")" | \frac group group

A missing sign before "(" or after ")" multiplies.

``plain_signs`` first brings the many writings of a sign to the grammar's own: × · ∙ ∗ ÷ − – — and
their LaTeX names, ``\left(``, square and curly brackets, ``$…$``.
"""

from __future__ import annotations

import re
from fractions import Fraction

MAX_DEPTH = 40
MAX_NUMBERS = 64
MAX_DIGITS = 18

# In this order: each pattern sees what the earlier ones have left.
WRITINGS = [
    (re.compile(r"\\[dt]frac"), r"\\frac"),
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])|[×·∙⋅∗✕✖]"), "*"),
    (re.compile(r"\\div(?![a-zA-Z])|[÷∕⁄]"), "/"),
    (re.compile(r"[−–—‐‑﹣-]"), "-"),
    (re.compile(r"[＋]"), "+"),
    (
        re.compile(
            r"\\(?:left|right|big|Big|displaystyle)(?![a-zA-Z])|\\[()\[\],;! ]|\\boxed|[$`]"
        ),
        " ",
    ),
    # Emphasis around the whole; inside, ** is a power and no move of the game.
    (re.compile(r"^[\s*]+|[\s*]+$"), ""),
    # An x between numbers multiplies.
    (re.compile(r"(?<=[0-9)\s])[xX](?=[\s(0-9])"), "*"),
    (re.compile(r"[（]"), "("),
    (re.compile(r"[）]"), ")"),
    (re.compile(r"\\?[{\[]"), "("),
    (re.compile(r"\\?[}\]]"), ")"),
]
TOKEN = re.compile(r"[0-9]+(?:\.[0-9]+)?|\\frac|[-+*/()]")


class BadExpression(ValueError):
    """The text is not an expression of the game."""


def plain_signs(text: str) -> str:
    """``text`` in the grammar's own signs, without the full stop of a sentence."""
    for pattern, sign in WRITINGS:
        text = pattern.sub(sign, text)
    return text.strip().rstrip(".,;!").strip()


def evaluate(text: str) -> tuple[Fraction | None, list[Fraction]]:
    """The exact value of ``text`` (None when it divides by zero) and the numbers it uses.

    Raises:
        BadExpression: not of the grammar, or beyond ``MAX_DEPTH``, ``MAX_NUMBERS`` or
            ``MAX_DIGITS``.
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
        if self.position < len(self.tokens):
            return self.tokens[self.position]
        return ""

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
            elif token in ("(", "\\frac") or (
                token[:1].isdigit() and self.tokens[self.position - 1] == ")"
            ):
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
        if not token:
            raise BadExpression("the expression is incomplete")
        raise BadExpression(f"a number is missing before {token!r}")

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
            raise BadExpression(
                f"more than {MAX_NUMBERS} numbers, or one beyond {MAX_DIGITS} digits"
            )
        self.used.append(Fraction(token))
        return self.used[-1]


def combine(sign: str, left: Fraction | None, right: Fraction | None) -> Fraction | None:
    if left is None or right is None or (sign == "/" and right == 0):
        return None
    if sign == "+":
        return left + right
    if sign == "-":
        return left - right
    if sign == "*":
        return left * right
    return left / right
