"""What a question says of its variables: which are positive, which are integers."""

from __future__ import annotations

import re
from dataclasses import dataclass

# One variable or a list of them, "m, n and $k$"; a letter beside a letter is part of a word.
LETTERS = r"\$?\\?([a-zA-Z](?![a-zA-Z])(?:\$?\s*(?:,|and|,\s*and)\s*\$?[a-zA-Z](?![a-zA-Z]))*)\$?"
KIND = (
    r"(?:real|rational|whole|natural|odd|even|prime)?\s*"
    r"(?:integers?|numbers?|reals?|constants?|parameters?|values?)?"
)
POSITIVE = [
    re.compile(rf"\b(?:positive|natural)\s+{KIND}\s*(?:of\s+)?{LETTERS}", re.IGNORECASE),
    re.compile(
        rf"{LETTERS}\s+(?:is|are|be|denotes?|being)\s+(?:an?\s+)?(?:any\s+|arbitrary\s+|fixed\s+)*(?:positive|natural)\b",
        re.IGNORECASE,
    ),
    # A lower bound without a minus sign, "x > 5".
    re.compile(rf"{LETTERS}\s*(?:>|\\gt|\\ge|\\geq|\\geqslant|≥|>=)\s*[0-9]"),
    re.compile(rf"{LETTERS}\s*(?:\\in|∈)\s*(?:\\mathbb\s?\{{?(?:N|Z\^?\{{?\+)|ℕ)"),
]  # fmt: skip
WHOLE = [
    re.compile(rf"\b(?:integers?|natural numbers?|whole numbers?)\s+{LETTERS}", re.IGNORECASE),
    re.compile(
        rf"{LETTERS}\s+(?:is|are|be|denotes?)\s+(?:an?\s+)?(?:any\s+|arbitrary\s+|fixed\s+|positive\s+|negative\s+)*"
        r"(?:integer|natural|whole)",
        re.IGNORECASE,
    ),
    re.compile(rf"{LETTERS}\s*(?:\\in|∈)\s*(?:\\mathbb\s?\{{?[NZ]|[ℕℤ])"),
]  # fmt: skip


@dataclass(frozen=True)
class Variables:
    positive: frozenset[str]
    whole: frozenset[str]


def read_variables(question: str) -> Variables:
    return Variables(named_by(POSITIVE, question), named_by(WHOLE, question))


def named_by(patterns: list[re.Pattern[str]], question: str) -> frozenset[str]:
    names: set[str] = set()
    for pattern in patterns:
        for match in pattern.finditer(question):
            names.update(re.findall(r"(?<![a-zA-Z])[a-zA-Z](?![a-zA-Z])", match.group(1)))
    return frozenset(names)
