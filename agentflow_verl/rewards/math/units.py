"""Units and currencies behind a number, in one writing each.

"square cm", "cm^2" and "sq. centimetres" are one unit, "mph" and "miles per hour" another. Units
are told apart and not converted, except cents and pence, which are hundredths of their currency.
A word that makes another number of it ("fifths", "doubled") or remarks on it ("wrong") is no unit.
"""

from __future__ import annotations

import re

from agentflow_verl.rewards.math.words import DENOMINATORS

PACKED = re.compile(r"\\(?:text|mathrm|textrm|mbox|operatorname|rm|,|;|!|\s)|[{}~]")
UNIT = re.compile(r"[^\W\d_]+(?:(?:\s?\^?\s?[23²³])?[/ .]+[^\W\d_]+){0,4}(?:\s?\^?\s?[23²³])?\.?")
TRAILING = re.compile(
    r"(?P<expression>.*[0-9a-zA-Z)}])(?:"
    r"(?:\s|\\,)*(?P<text>\\(?:text|mathrm|textrm)\s?\{[^{}]*\}(?:\^\{?[23]\}?)?)"
    r"|(?<=[0-9)}])(?:\s|\\,)+(?P<word>[a-zA-Z]{2,12}))",
    re.DOTALL,
)
TOKEN = re.compile(r"[^\W\d_]+|[23²³/]")

# Units of one letter, which need a blank before them: "3 m" is a length, "3m" a product.
ONE_LETTER = frozenset("mgshLlVWNJKCFA")
GLUED = frozenset(
    "km cm mm kg mg lb lbs oz ft mi min sec hr hrs mph kph ml mL deg am pm USD EUR GBP".split()
)
# Words that follow numbers in prose and algebra.
NO_UNITS = frozenset(
    "and or not more less least most over plus minus times factorial pi sqrt root sin cos tan "
    "cot sec csc log ln exp mod if for when with to than by choose factor infinity inf is are "
    "above below maybe doubled halved tripled tens gross".split()
)
# "3 fifths" is 3/5 and not three of a unit.
PARTS = frozenset(DENOMINATORS) | {f"{name}s" for name in DENOMINATORS}
# Remarks on a number, and operations, when they stand last: "5 wrong", but "5 wrong answers".
REMARKS = frozenset(
    "wrong incorrect false impossible negative unlikely excluded missing short base power inverse "
    "reciprocal".split()
)
POWERS = {"square": "2", "sq": "2", "squared": "2", "cubic": "3", "cubed": "3", "²": "2", "³": "3"}
GENERIC = frozenset({"unit"})
NAMES = {
    "centimeter": "cm", "centimetre": "cm", "meter": "m", "metre": "m", "kilometer": "km",
    "kilometre": "km",
    # "inche" and "pennie" are what is left of the plurals without their s.
    "millimeter": "mm", "millimetre": "mm", "foot": "ft", "feet": "ft", "inche": "inch",
    "in": "inch",
    "mile": "mi", "gram": "g", "kilogram": "kg", "hour": "h", "hr": "h", "minute": "min",
    "second": "sec", "s": "sec",
    "degree": "deg", "liter": "l", "litre": "l", "yard": "yd", "pound": "lb", "milliliter": "ml",
    "millilitre": "ml",
    "dollar": "usd", "buck": "usd", "euro": "eur", "yen": "jpy", "rupee": "inr", "cent": "usd/100",
    "¢": "usd/100",
    "newton": "n", "joule": "j", "watt": "w", "volt": "v", "ounce": "oz", "celsius": "c",
    "fahrenheit": "f",
    "penny": "usd/100", "pennie": "usd/100", "pence": "gbp/100", "quid": "gbp",
}  # fmt: skip
RATES = {"mph": ["mi", "/", "h"], "kph": ["km", "/", "h"], "kmh": ["km", "/", "h"]}
# Keyed by the sign as ``currency_code`` strips it.
CURRENCIES = {
    "$": "usd", "US$": "usd", "USD": "usd", "€": "eur", "EUR": "eur", "£": "gbp", "GBP": "gbp",
    "¥": "jpy",
    "JPY": "jpy", "₹": "inr", "INR": "inr", "Rs": "inr", "₩": "krw", "₽": "rub", "C$": "cad",
    "A$": "aud",
}  # fmt: skip
CURRENCY = (
    r"(?:(?:US|C|A)?\\?\$|[€£¥₹₩₽]|\\(?:text|mathrm)?\{?\\?(?:pounds|euro)\}?"
    r"|(?:USD|EUR|GBP|JPY|INR|Rs\.?)(?=[\s\d]))"
)


def currency_code(sign: str) -> str:
    """The code of a money sign before a number, as ``canonical_unit`` writes the unit in words."""
    bare = sign.replace("\\", "").replace("{", "").replace("}", "").rstrip(".")
    if "pounds" in bare:
        return "gbp"
    if "euro" in bare:
        return "eur"
    return CURRENCIES.get(bare, bare.lower())


def split_unit(text: str) -> tuple[str, str]:
    r"""An expression and the unit behind it, "" for none: ``2\sqrt{3}\text{ cm}`` is ``2\sqrt{3}``
    and ``cm``.
    """
    match = TRAILING.fullmatch(text)
    if not match:
        return text, ""
    words = " ".join(PACKED.sub(" ", match["text"] or match["word"]).split())
    if match["text"]:
        known = is_unit(words, True)
    else:
        known = words in GLUED or canonical_unit(words) in NAMES.values()
    if known:
        return (match["expression"].rstrip(), canonical_unit(words))
    return (text, "")


def is_unit(words: str, apart: bool) -> bool:
    """Whether words after a number are a unit and not algebra: "3 m" and "3km" are, "3m", "3xy" and
    "3 pi" are not.
    """
    names = re.findall(r"[^\W\d_]+", words)
    if not names or names[0] in ("squared", "cubed") or names[-1].lower() in REMARKS:
        return False
    if (NO_UNITS | PARTS).intersection(map(str.lower, names)):
        return False
    if not apart:
        return names[0] in GLUED
    return len(names[0]) > 1 or names[0] in ONE_LETTER


def canonical_unit(words: str) -> str:
    """One name for a unit, so that two units can be told apart: lower case, no plural, short forms.

    "" for units of no kind, as in "12 square units".
    """
    parts: list[str] = []
    power = ""
    for token in TOKEN.findall(f" {words.lower()}".replace(" per ", " / ")):
        if token in ("square", "sq", "cubic"):
            power = POWERS[token]
        elif token in POWERS or token.isdigit():
            parts.append(POWERS.get(token, token))
        else:
            parts += RATES.get(token) or [unit_name(token), *power]
            power = ""
    if GENERIC & set(parts):
        return ""
    return " ".join(parts)


def unit_name(token: str) -> str:
    if token in NAMES:
        return NAMES[token]
    singular = token
    if len(token) > 2:
        singular = token.removesuffix("s")
    return NAMES.get(singular, singular)
