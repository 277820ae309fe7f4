r"""Numerals with a stated base: ``2041_5``, ``(2041)_{5}``, ``2041_{\text{five}}``, "2041 base
5".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NAMES = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11,
    "twelve": 12, "sixteen": 16, "binary": 2, "octal": 8, "decimal": 10, "hexadecimal": 16,
}  # fmt: skip
BASE = r"([0-9]{1,2}|" + "|".join(NAMES) + ")"
# "1011_2", "(2A)_{16}", "12_{\\text{base }8}"; the int() below checks the digits.
SUBSCRIPT = re.compile(
    r"\(?\s*([0-9A-Za-z][0-9A-Za-z\s,]*)\s*\)?\s*_\s*\{?\s*(?:\\(?:text|mathrm)\s?\{)?\s*(?:base\s*)?"
    + BASE
    + r"\s*\}?\s*\}?",
    re.IGNORECASE,
)
# "1011 in base 2", "1011 (base two)".
IN_WORDS = re.compile(
    r"\(?\s*([0-9A-Za-z]+)\s*\)?[\s,]*(?:\\text\s?\{)?\s*\(?(?:in\s+)?base[\s-]*"
    + BASE
    + r"\s*\)?\s*\}?",
    re.IGNORECASE,
)
# "1,101" and "1101 0110", but "1,2" are two numerals.
DIGITS = re.compile(r"[0-9A-Za-z]+(?:(?:,\s?|\s)[0-9A-Za-z]{3,4})*\s*")
ASKED = re.compile(r"base[\s$-]*" + BASE + r"\b", re.IGNORECASE)


@dataclass(frozen=True)
class BasedNumeral:
    digits: str
    base: int


def parse_based_numeral(text: str) -> BasedNumeral | None:
    """The numeral and base that ``text`` consists of; None for anything else (``x_1`` is a
    name).
    """
    match = SUBSCRIPT.fullmatch(text.strip()) or IN_WORDS.fullmatch(text.strip())
    if not match or not DIGITS.fullmatch(match[1]):
        return None
    digits = re.sub(r"[\s,]", "", match[1]).lower().lstrip("0") or "0"
    base = base_of(match[2])
    # Without a digit it is a name with an index, unless the base has letters for digits.
    if base <= 10 and not any(map(str.isdigit, digits)):
        return None
    try:
        int(digits, base)
    except ValueError:
        return None
    return BasedNumeral(digits, base)


def base_of(name: str) -> int:
    return NAMES.get(name.lower()) or int(name)


def asked_base(question: str) -> int | None:
    """The base in which a question wants its answer: the last one it names; None without one."""
    named = ASKED.findall(question)
    if named:
        return base_of(named[-1])
    return None


def compare_based(answer: str, gold: str, question: str) -> bool | None:
    """Whether two numerals agree in digits and base; None where neither states a base.

    A base left out is the one that the question names last, ten where it names none.
    """
    given, wanted = parse_based_numeral(answer), parse_based_numeral(gold)
    if given is None and wanted is None:
        return None
    base = asked_base(question) or 10
    given = given or plain_numeral(answer, base)
    wanted = wanted or plain_numeral(gold, base)
    return given is not None and given == wanted


def plain_numeral(text: str, base: int) -> BasedNumeral | None:
    digits = text.strip().lower()
    if digits.isalnum():
        return BasedNumeral(digits.lstrip("0") or "0", base)
    return None
