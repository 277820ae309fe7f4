"""GAIA: its benchmark's normalised match (Mialon et al. 2023, arXiv 2311.12983, section 3 and its
leaderboard's scorer).

The gold answer decides how both are read:

    a number       equal numbers; ``$``, ``%`` and thousands separators do not count
    a list         as many items, in the gold's order, divided by "," or ";", each a number or
                   a text
    a text         equal without blanks, letter case, punctuation and width; the point of "2.5",
                   the slash of "1/2", "^" and ":" between digits count

Differs from the leaderboard's where that one is read as meant and not as written: "1,234" is a
number and no list, a gold answer of signs only must be given sign for sign, and punctuation outside
ASCII does not count either.

Blind spots, all scored 0: a number with a unit or word that the gold does not have ("17 km", "17
thousand"), items in another order, other names, dates in another order, an article ("The Beatles").
Scored 1: "-" inside a text is punctuation, so "12-3" and "123" are the same text where the gold is
no number.
"""

from __future__ import annotations

import re
import string
import unicodedata
from decimal import Decimal
from typing import Any

from agentflow_verl.rewards.score import GroundTruth, Score, gold_answers, right, wrong

MAX_CHARS = 2_000

NUMERAL = re.compile(
    r"[-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.[0-9]*)?(?:[eE][-+]?[0-9]{1,3})?"
)
DIVIDERS = re.compile(r"[,;]")
# The minus sign of typography counts as a hyphen.
SIGNS = str.maketrans({"$": "", "%": "", "−": "-", "–": "-"})
# Signs that make another number of the digits around them; a slash not in a date.
WITHIN_NUMBER = re.compile(r"(?<=[0-9])[.^:](?=[0-9])|(?<![0-9/])[0-9]+(/)[0-9]+(?![0-9/])")


def score_gaia(answer: str, ground_truth: GroundTruth, **extra: Any) -> Score:
    """1 when ``answer`` matches any gold answer.

    Raises:
        ConfigError: there is no gold answer.
    """
    golds = gold_answers(ground_truth)
    if len(answer) > MAX_CHARS:
        return wrong(f"longer than {MAX_CHARS} characters")
    if not answer.strip():
        return wrong("empty answer")
    for gold in golds:
        same, why = compare_by_gold(answer, gold)
        if same:
            return right(why)
    return wrong(why)


def compare_by_gold(answer: str, gold: str) -> tuple[bool, str]:
    """Whether the answer matches one gold answer, and by which reading of it."""
    if parse_number(gold) is not None:
        return parse_number(gold) == parse_number(answer), "compared as a number"
    wanted, given = split_items(gold), split_items(answer)
    if len(wanted) == 1:
        return same_text(answer, gold), "compared as a text"
    if len(wanted) != len(given):
        return False, f"{len(given)} items, not {len(wanted)}"
    return all(map(same_item, given, wanted)), "compared item by item"


def split_items(text: str) -> list[str]:
    return [item.strip() for item in DIVIDERS.split(text)]


def same_item(given: str, wanted: str) -> bool:
    if parse_number(wanted) is not None:
        return parse_number(wanted) == parse_number(given)
    return same_text(given, wanted)


def parse_number(text: str) -> Decimal | None:
    """The number that the whole text is, or None."""
    text = text.translate(SIGNS).strip()
    mantissa = re.split("[eE]", text)[0]
    # Every part of NUMERAL is optional, so "", "." and "e5" match it, too.
    if not NUMERAL.fullmatch(text) or not re.search("[0-9]", mantissa):
        return None
    return Decimal(text.replace(",", ""))


def same_text(one: str, other: str) -> bool:
    if comparable_text(one) or comparable_text(other):
        return comparable_text(one) == comparable_text(other)
    return one.strip() == other.strip()


def comparable_text(text: str) -> str:
    """Without blanks, letter case, punctuation and width; "2.5", "1/2" and "10^5" keep their
    signs.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = set()
    for match in WITHIN_NUMBER.finditer(folded):
        kept.add(match.start(match.lastindex or 0))
    compared = []
    for position, sign in enumerate(folded):
        if position in kept or is_compared(sign):
            compared.append(sign)
    return "".join(compared)


def is_compared(sign: str) -> bool:
    """Whether a sign counts when texts are compared."""
    if sign.isspace() or sign in string.punctuation:
        return False
    return not unicodedata.category(sign).startswith("P")
