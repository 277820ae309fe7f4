r"""Plain numbers in maths answers, parsed exactly.

``1,000``, ``-.5``, ``3/4``, ``1 1/2``, ``50\%``, ``$12``, ``1.5 × 10^3``, ``12 cm``, ``2 dozen``,
``17th``, ``0.1\overline{6}``.

The fast path of the maths scorer: no algebra, no other process. What it cannot parse, it leaves to
the algebra.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from agentflow_verl.rewards.math.units import (
    CURRENCY,
    PACKED,
    UNIT,
    canonical_unit,
    currency_code,
    is_unit,
)

MAX_CHARS = 120
MAX_POWER = 300
ROUNDED_DIGITS = 6
"""A decimal with at least this many places may stand for a fraction without end: 0.333333 for
1/3.
"""

# Sign and currency in either order ("-$5", "$-5"); thousands by comma, "{,}" or a narrow blank, but
# only in groups of three; a power as "e5" or "\\times 10^5".
NUMBER = re.compile(
    rf"(?P<money>{CURRENCY})?\s*(?P<sign>[-+]?)\s*(?P<money2>{CURRENCY})?\s*"
    r"(?P<whole>[0-9]{1,3}(?:(?:,|\{,\}|\\,|[\u00a0\u202f ])[0-9]{3})+(?![0-9])"
    r"|[0-9]+)?(?P<part>\.[0-9]*)?"
    r"(?:\s*(?:[eE]|(?:\\times|\\cdot|[×*])\s*10\s*\^)\s*(?P<power>\{\s*[-+]?[0-9]{1,4}\s*\}|[-+]?[0-9]{1,4}))?"
    r"(?P<rest>.*)",
    re.DOTALL,
)
# "-3/4", "\\frac{3}{4}" and mixed numbers ("1 3/4"): a denominator has no sign of its own.
FRACTION = re.compile(
    r"(?P<sign>[-+]?)\s*(?:(?P<mixed>[0-9]+)(?:\s+|\s*(?=\\frac)))?"
    r"(?:\\frac\s*\{\s*(?P<a>-?[0-9]+)\s*\}\s*\{\s*(?P<b>[0-9]+)\s*\}|(?P<c>[0-9]+)\s*/\s*(?P<d>[0-9]+))(?P<rest>.*)",
    re.DOTALL,
)
# A period under a bar, between two dots, in brackets, or with a combining macron over each digit.
REPEATING = re.compile(
    r"(?P<whole>[0-9]*)\.(?P<part>[0-9]*)(?:"
    r"\\(?:overline|bar|dot)\s?\{\s*(?P<over>[0-9]+)\s*\}(?:(?P<dots>[0-9]*)\\dot\s?\{\s*(?P<last>[0-9])\s*\})?"
    r"|\((?P<brackets>[0-9]+)\)"
    r"|(?P<macron>(?:[0-9][\u0304\u0305])+))"
)
ENDLESS = re.compile(
    r"(?P<sign>[-+]?)\s*(?P<whole>[0-9]*)\.(?P<part>[0-9]+)\s*"
    r"(?:\.{3}|\\(?:ldots|dots|cdots)|(?P<word>\(?\s*(?:repeating|recurring)\s*\)?))\s*"
)
PERCENT = re.compile(r"\s*(?:\\?%|per\s?cent\b|percentage\b)\.?\s*", re.IGNORECASE)
DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|°")
ORDINAL = re.compile(
    r"\s*\^?\s*\{?\s*(?:\\(?:text|mathrm|textrm)\s?\{)?\s*(?:st|nd|rd|th)\b\s*\}*\s*(?P<rest>.*)",
    re.DOTALL,
)
SCALES = {
    "dozen": 12, "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9,
    "trillion": 10**12, "bn": 10**9, "lakh": 10**5, "crore": 10**7,
}  # fmt: skip
SCALE_ASKED = re.compile(r"(?i)\bhow many (" + "|".join(SCALES) + r")s?\b")
PERCENT_ASKED = re.compile(
    r"(?i)\b(?:what|which|find the|how many|as an?|in|the) (?:\w+ ){0,3}per\s?cent\b|\bpercentage\b"
)
PERCENT_NAMED = re.compile(r"(?i)%|\bper\s?cent")


@dataclass(frozen=True)
class Quantity:
    """``value`` exactly as written (50% is 50 and ``percent``), ``places`` after the point (None
    for a fraction), ``unit`` in canonical form ("usd" for $).
    """

    value: Fraction
    places: int | None
    percent: bool
    unit: str


def parse_quantity(text: str) -> Quantity | None:
    """The number that ``text`` consists of, with its per cent sign or unit; None when it is
    anything else.
    """
    if len(text) > MAX_CHARS:
        return None
    repeating = parse_repeating_decimal(text)
    if repeating is not None:
        return Quantity(repeating, None, False, "")
    return parse_fraction(text) or parse_decimal(text)


def parse_fraction(text: str) -> Quantity | None:
    match = FRACTION.fullmatch(text)
    if not match:
        return None
    above, below = int(match["a"] or match["c"]), int(match["b"] or match["d"])
    if not below or (match["mixed"] and above < 0):
        return None
    value = int(match["mixed"] or 0) + Fraction(above, below)
    if match["sign"] == "-":
        value = -value
    return with_rest(value, None, match["rest"])


def parse_decimal(text: str) -> Quantity | None:
    match = NUMBER.fullmatch(text)
    if not match or not (match["whole"] or (match["part"] or "").strip(".")):
        return None
    whole = re.sub(r"[^0-9]", "", match["whole"] or "0")
    part = (match["part"] or "").lstrip(".")
    power = 0
    if match["power"]:
        power = int(match["power"].strip("{} "))
    if abs(power) > MAX_POWER:
        return None
    value = Fraction(f"{whole}.{part or 0}") * Fraction(10) ** power
    signed = value
    if match["sign"] == "-":
        signed = -value
    money, rest = match["money"] or match["money2"], match["rest"]
    if money:
        rest = re.sub(r"^\s*/\s*(?=[a-zA-Z])", " per ", rest)
    found = with_rest(signed, max(0, len(part) - power), rest)
    if found is None or not money:
        return found
    code = currency_code(money)
    if found.unit.startswith("/ "):
        return replace(found, unit=f"{code} {found.unit}")  # "$5 per day"
    if found.unit not in ("", code):
        if found.unit.startswith(code):
            return found
        return None  # "$5 cents" names two
    return replace(found, unit=code)


def parse_repeating_decimal(text: str) -> Fraction | None:
    r"""``0.1\overline{6}``, ``0.\dot{3}``, ``0.(3)`` and ``0.1666...`` as the fractions they are.

    Digits before three dots repeat when their end stands there twice or more in a row.
    """
    signed = re.fullmatch(r"\s*([-+]?)\s*(.*?)\s*", text, re.DOTALL)
    match = None
    if signed:
        match = REPEATING.fullmatch(signed[2])
    if signed and match:
        value = repeating_value(match)
        if signed[1] == "-":
            return -value
        return value
    endless = ENDLESS.fullmatch(text.strip())
    if not endless:
        return None
    part = endless["part"]
    if endless["word"]:
        head, period = "", part
    else:
        split = repeated_end(part)
        if split is None:
            return None
        head, period = split
    value = repeating_fraction(endless["whole"], head, period)
    if endless["sign"] == "-":
        return -value
    return value


def repeating_value(match: re.Match[str]) -> Fraction:
    period = match["over"] or match["brackets"] or ""
    if match["last"]:
        period += match["dots"] + match["last"]
    if match["macron"]:
        period = re.sub(r"[^0-9]", "", match["macron"])
    return repeating_fraction(match["whole"], match["part"], period)


def repeating_fraction(whole: str, head: str, period: str) -> Fraction:
    # A period of n digits is itself divided by 10^n - 1: 0.(27) is 27/99.
    ends = Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(head))
    return Fraction(f"{whole or 0}.{head or 0}") + ends


def repeated_end(digits: str) -> tuple[str, str] | None:
    """The digits before the shortest period that ends ``digits`` at least twice, and the period."""
    for size in range(1, len(digits) // 2 + 1):
        period = digits[-size:]
        if digits[-2 * size : -size] != period:
            continue
        head = digits
        while head.endswith(period):
            head = head[:-size]
        return head, period
    return None


def with_fractions(text: str) -> str:
    r"""``text`` with its repeating decimals as ``\frac``, which the algebra reads."""

    def fraction(match: re.Match[str]) -> str:
        value = repeating_value(match)
        return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"

    if "." in text:
        return REPEATING.sub(fraction, text)
    return text


def with_rest(value: Fraction, places: int | None, rest: str) -> Quantity | None:
    """The quantity with what follows the number, or None when that is neither a unit, a scale, the
    ending of an ordinal nor a per cent sign.
    """
    rest = rest.rstrip(" .,;")
    if not rest:
        return Quantity(value, places, False, "")
    if PERCENT.fullmatch(rest):
        return Quantity(value, places, True, "")
    ordinal = ORDINAL.fullmatch(rest)
    if ordinal and value.denominator == 1 and places == 0:
        rest = ""
        if ordinal["rest"]:
            rest = f" {ordinal['rest']}"
        return with_rest(value, places, rest)
    apart = rest[0] in " \\~°^¢€"
    words = " ".join(PACKED.sub(" ", DEGREES.sub(" degrees ", rest)).split())
    words = words.replace("¢", "cent").replace("€", "euro")
    scale, _, after = words.partition(" ")
    factor = SCALES.get(scale.lower().removesuffix("s"))
    if factor:
        if after:
            after = f" {after}"  # still apart from the number
        return with_rest(value * factor, places, after)
    if not UNIT.fullmatch(words) or not is_unit(words, apart):
        return None
    return Quantity(value, places, False, canonical_unit(words))


def without_asked_scale(text: str, question: str) -> str:
    """``text`` without the scale that the question counts in: "3 dozen" where it asks how many
    dozen.
    """
    asked = SCALE_ASKED.search(question)
    if not asked:
        return text
    return re.sub(rf"(?i)(?<=[0-9a-z])\s+{asked[1]}s?$", "", text.strip())


def equal_quantities(answer: Quantity, gold: Quantity, question: str) -> bool:
    """Exact equality of value and, where both name one, of unit.

    A per cent sign on one side only: 50% equals 0.5. It also equals 50 where the question asks for
    a percentage, and, if they are whole numbers, where the question is not known or names one. A
    decimal equals an endless fraction when it is that fraction rounded to ``ROUNDED_DIGITS`` places
    or more.
    """
    if answer.unit and gold.unit and answer.unit != gold.unit:
        answer, gold = in_whole_currency(answer), in_whole_currency(gold)
        if answer.unit != gold.unit:
            return False
    if answer.percent == gold.percent:
        return same_value(answer, gold)
    marked, unmarked = gold, answer
    if answer.percent:
        marked, unmarked = answer, gold
    if unmarked.unit:
        return False
    if PERCENT_ASKED.search(question):
        sign_counts = False
    else:
        known = bool(question) and not PERCENT_NAMED.search(question)
        sign_counts = known or unmarked.value.denominator != 1
    if not sign_counts and same_value(marked, unmarked):
        return True
    if marked.places is None:
        places = None
    else:
        places = marked.places + 2
    return same_value(Quantity(marked.value / 100, places, False, ""), unmarked)


def in_whole_currency(quantity: Quantity) -> Quantity:
    """Cents as dollars, pence as pounds."""
    if not quantity.unit.endswith("/100"):
        return quantity
    if quantity.places is None:
        places = None
    else:
        places = quantity.places + 2
    return Quantity(quantity.value / 100, places, False, quantity.unit.removesuffix("/100"))


def same_value(one: Quantity, other: Quantity) -> bool:
    if one.value == other.value:
        return True
    if (one.places is None) == (other.places is None):
        return False
    decimal, fraction = one, other
    if one.places is None:
        decimal, fraction = other, one
    if decimal.places is None or decimal.places < ROUNDED_DIGITS:
        return False
    # Half a unit in the last place: the bound of rounding.
    difference = abs(decimal.value - fraction.value)
    return difference <= Fraction(5, 10 ** (decimal.places + 1))
