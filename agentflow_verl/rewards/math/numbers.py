r"""Plain numbers in maths answers, read exactly.

Read are ``1,000``, ``-.5``, ``3/4``, ``1 1/2``, ``50\%``, ``$12``, ``1.5 × 10^3``, ``12 cm``.

The fast path of the maths scorer: no algebra, no other process. What it cannot read, it leaves to
the algebra.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_CHARS = 120
MAX_POWER = 300
ROUNDED_DIGITS = 6
"""A decimal with at least this many places may stand for a fraction without end: 0.333333 for 1/3."""

NUMBER = re.compile(
    r"(?P<money>[$€£¥]|\\\$)?\s*(?P<sign>[-+]?)\s*(?P<money2>[$€£¥]|\\\$)?\s*"
    r"(?P<whole>[0-9]{1,3}(?:(?:,|\{,\}|\\,|[   ])[0-9]{3})+(?![0-9])|[0-9]+)?(?P<part>\.[0-9]*)?"
    r"(?:\s*(?:[eE]|(?:\\times|\\cdot|[×*])\s*10\s*\^)\s*(?P<power>\{\s*[-+]?[0-9]{1,4}\s*\}|[-+]?[0-9]{1,4}))?"
    r"(?P<rest>.*)",
    re.DOTALL,
)
FRACTION = re.compile(
    r"(?P<sign>[-+]?)\s*(?:(?P<mixed>[0-9]+)(?:\s+|\s*(?=\\frac)))?"
    r"(?:\\frac\s*\{\s*(?P<a>-?[0-9]+)\s*\}\s*\{\s*(?P<b>[0-9]+)\s*\}|(?P<c>[0-9]+)\s*/\s*(?P<d>[0-9]+))(?P<rest>.*)",
    re.DOTALL,
)
PERCENT = re.compile(r"\s*(?:\\?%|per\s?cent\b|percentage\b)\.?\s*", re.IGNORECASE)
DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|°")
PACKED = re.compile(r"\\(?:text|mathrm|textrm|mbox|operatorname|rm|,|;|!|\s)|[{}~]")
UNIT = re.compile(r"[^\W\d_]+(?:[/ .]+[^\W\d_]+){0,3}(?:\s?\^?\s?[23²³])?")
TRAILING = re.compile(
    r"(?P<expression>.*[0-9a-zA-Z)}])(?:"
    r"(?:\s|\\,)*(?P<text>\\(?:text|mathrm|textrm)\s?\{[^{}]*\}(?:\^\{?[23]\}?)?)"
    r"|(?<=[0-9)}])(?:\s|\\,)+(?P<word>[a-zA-Z]{2,12}))",
    re.DOTALL,
)
SCALES = {
    "hundred": 10**2,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}

ONE_LETTER = frozenset("mgshLlVWNJKCFA")
GLUED = frozenset("km cm mm kg mg lb lbs ft mi min sec hr hrs mph kph ml mL deg am pm".split())
NO_UNITS = frozenset(
    "and or not more less least most over plus minus times squared cubed factorial pi sqrt root sin"
    " cos tan cot sec csc log ln exp mod if for when with to than by choose factor infinity inf"
    " half third quarter if is are".split()
)


@dataclass(frozen=True)
class Quantity:
    """``value`` exactly as written (50% is 50 and ``percent``), ``places`` after the point (None
    for a fraction).
    """

    value: Fraction
    places: int | None
    percent: bool
    unit: str


def read_quantity(text: str) -> Quantity | None:
    """The number ``text`` consists of, with its per cent sign or unit; None when it is anything
    else.
    """
    if len(text) > MAX_CHARS:
        return None
    fraction = FRACTION.fullmatch(text)
    if fraction:
        above, below = int(fraction["a"] or fraction["c"]), int(fraction["b"] or fraction["d"])
        if not below:
            return None
        if fraction["mixed"] and above < 0:
            return None
        value = int(fraction["mixed"] or 0) + Fraction(above, below)
        return finish(-value if fraction["sign"] == "-" else value, None, fraction["rest"])
    match = NUMBER.fullmatch(text)
    if not match or not (match["whole"] or (match["part"] or "").strip(".")):
        return None
    whole = re.sub(r"[^0-9]", "", match["whole"] or "0")
    part = (match["part"] or "").lstrip(".")
    power = int(match["power"].strip("{} ")) if match["power"] else 0
    if abs(power) > MAX_POWER:
        return None
    value = Fraction(f"{whole}.{part or 0}") * Fraction(10) ** power
    return finish(
        -value if match["sign"] == "-" else value, max(0, len(part) - power), match["rest"]
    )


def finish(value: Fraction, places: int | None, rest: str) -> Quantity | None:
    """The quantity with what follows the number, or None when that is neither a unit, a scale nor a
    per cent sign.
    """
    rest = rest.rstrip(" .,;")
    if not rest:
        return Quantity(value, places, False, "")
    if PERCENT.fullmatch(rest):
        return Quantity(value, places, True, "")
    apart = rest[0] in " \\~°^"
    words = " ".join(PACKED.sub(" ", DEGREES.sub(" degrees ", rest)).split())
    scale, _, after = words.partition(" ")
    if scale.lower() in SCALES:
        return finish(value * SCALES[scale.lower()], places, f" {after}" if after else "")
    if not UNIT.fullmatch(words) or not is_unit(words, apart):
        return None
    return Quantity(value, places, False, canonical(words))


def split_unit(text: str) -> tuple[str, str]:
    r"""An expression and the unit behind it, "" for none: ``2\sqrt{3}\text{ cm}`` is ``2\sqrt{3}``
    and ``cm``.
    """
    match = TRAILING.fullmatch(text)
    if not match:
        return text, ""
    words = " ".join(PACKED.sub(" ", match["text"] or match["word"]).split())
    known = (
        is_unit(words, True)
        if match["text"]
        else words in GLUED or canonical(words) in SHORT.values()
    )
    return (match["expression"].rstrip(), canonical(words)) if known else (text, "")


def is_unit(words: str, apart: bool) -> bool:
    """Whether words after a number are a unit and not algebra: "3 m" and "3km" are, "3m", "3xy" and
    "3 pi" are not.
    """
    names = re.findall(r"[^\W\d_]+", words)
    if any(name.lower() in NO_UNITS for name in names):
        return False
    if not apart:
        return names[0] in GLUED
    return len(names[0]) > 1 or names[0] in ONE_LETTER


def canonical(words: str) -> str:
    """One name for a unit, so that two units can be told apart: lower case, no plural, short forms."""
    names = [SHORT.get(name, name) for name in re.findall(r"[^\W\d_]+|[23²³]", words.lower())]
    return " ".join(SHORT.get(name.rstrip("s"), name.rstrip("s")) for name in names)


SHORT = {
    "centimeter": "cm", "centimetre": "cm", "meter": "m", "metre": "m", "kilometer": "km", "kilometre": "km",
    "millimeter": "mm", "millimetre": "mm", "foot": "ft", "feet": "ft", "inche": "inch", "inches": "inch",
    "mile": "mi", "gram": "g", "kilogram": "kg", "hour": "h", "hr": "h", "minute": "min", "second": "sec", "s": "sec",
    "degree": "deg", "dollar": "usd", "liter": "l", "litre": "l", "²": "2", "³": "3",
}  # fmt: skip


def equal(answer: Quantity, gold: Quantity) -> bool:
    """Exact equality of value and, where both name one, of unit.

    A per cent sign on one side only: 50% equals 0.5, and whole numbers also ignore it (50% equals
    50), since questions ask "what percent". A decimal equals an endless fraction when it is that
    fraction rounded to ``ROUNDED_DIGITS`` places or more.
    """
    if answer.unit and gold.unit and answer.unit != gold.unit:
        return False
    if answer.percent == gold.percent:
        return same_value(answer, gold)
    marked, plain = (answer, gold) if answer.percent else (gold, answer)
    if plain.unit:
        return False
    if marked.value == plain.value and plain.value.denominator == 1:
        return True
    places = None if marked.places is None else marked.places + 2
    return same_value(Quantity(marked.value / 100, places, False, ""), plain)


def same_value(one: Quantity, other: Quantity) -> bool:
    if one.value == other.value:
        return True
    if (one.places is None) == (other.places is None):
        return False
    decimal, fraction = (other, one) if one.places is None else (one, other)
    if decimal.places < ROUNDED_DIGITS:
        return False
    return abs(decimal.value - fraction.value) * 10**decimal.places <= Fraction(1, 2)
