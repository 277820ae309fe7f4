"""Chains of equations in an answer: ``gcd(10, 15) = 5``, ``x = 2 + 3 = 5``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agentflow_verl.rewards.math.numbers import parse_quantity

# A lone equals sign, not part of ≤, ≥, ≠, := or ==.
RELATION = re.compile(r"(?<![<>!:=\\])=(?!=)")
APPROXIMATELY = re.compile(r"\\(?:approx|simeq|cong)(?![a-zA-Z])|≈")
# "x = 2 or x = 3", "x = 2, y = 3": several statements, no chain.
ALTERNATIVES = re.compile(r"\bor\b|\\lor|\\vee|(?:,|\band\b\s*\}?|;)\s*\$?[a-zA-Z]\s*=")
# Names that stand in a number's expression; any other letter is a variable or a label.
FUNCTIONS = re.compile(
    r"\\?(?:frac|sqrt|cdot|times|div|binom|pi|gcd|lcm|max|min|log|ln|exp|sin|cos|tan|infty|left|right"
    r"|pm|circ|text\s?\{[^{}]*\}|mathrm\s?\{[^{}]*\}|sum|prod|bmod|mod|lfloor|rfloor|lceil|rceil)"
    r"(?![a-zA-Z])"
)


@dataclass(frozen=True)
class Chain:
    """The members of a chain that are values; labels before them ("x", "m+n", "f(2)") are left
    out.
    """

    values: tuple[str, ...]


def split_chain(text: str) -> Chain | None:
    """The chain that ``text`` is, None where it has no equals sign outside of brackets."""
    if ALTERNATIVES.search(text):
        return None
    exact = APPROXIMATELY.split(text)[0].strip() or text
    members = list(map(str.strip, split_outside_brackets(exact)))
    if len(members) == 1:
        if exact == text:
            return None
        return Chain((exact,))
    if not all(members):
        return None
    *before, last = members
    return Chain((*filter(is_value, before), last))


def split_outside_brackets(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    equals = {match.start() for match in RELATION.finditer(text)}
    for position, sign in enumerate(text):
        depth += (sign in "({[") - (sign in ")}]")  # opens one, closes one
        if position in equals and depth <= 0:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]]


def is_value(member: str) -> bool:
    """Whether a member of a chain is a number or made of numbers only, and no name for one."""
    if parse_quantity(member) is not None:
        return True
    bare = FUNCTIONS.sub(" ", member)
    return re.search(r"[0-9]", bare) is not None and re.search(r"[A-Za-z]", bare) is None
