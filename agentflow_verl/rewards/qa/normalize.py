"""One canonical wording of a short answer: what question answering compares.

    canonical_words("The Twenty-First of  US$1,200.50")  ->  ["21st", "of", "us", "1200.5", "usd"]

Case, accents, width, articles, punctuation and hyphens go; numbers become plain digits whether
written in digits, words or both ("2.5 million"); ordinals become "3rd"; common units, money signs
and eras get one name each. Dates are read apart, by ``dates.py``, since their order carries no
meaning.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from fractions import Fraction

ARTICLES = frozenset({"a", "an", "the"})
HEDGES = frozenset(
    {"about", "approximately", "approx", "around", "roughly", "circa", "ca", "nearly", "almost"}
)
CONNECTORS = frozenset({"to", "and", "until", "till", "through"})

UNITS = {
    "km": "km kms kilometer kilometers kilometre kilometres",
    "m": "m meter meters metre metres",
    "cm": "cm centimeter centimeters centimetre centimetres",
    "mm": "mm millimeter millimeters millimetre millimetres",
    "mi": "mi mile miles",
    "ft": "ft foot feet",
    "inch": "inch inches",
    "kg": "kg kgs kilogram kilograms kilogramme kilogrammes",
    "lb": "lb lbs",
    "oz": "oz ounce ounces",
    "gram": "gram grams gramme grammes",
    "liter": "liter liters litre litres",
    "acre": "acre acres",
    "sq": "sq square",
    "h": "h hr hrs hour hours",
    "min": "min mins minute minutes",
    "sec": "sec secs seconds",
    "percent": "percent percentage pct",
    "usd": "usd dollar dollars",
    "eur": "eur euro euros",
    "gbp": "gbp",
    "jpy": "jpy yen",
    "inr": "inr rupee rupees",
    "krw": "krw won",
    "cent": "cent cents",
    "year": "year years yr yrs",
    "bc": "bc bce",
    "ad": "ad ce",
}
UNIT_OF = {}
for _unit, _names in UNITS.items():
    UNIT_OF.update(dict.fromkeys(_names.split(), _unit))
AREAS = {
    "km2": ["sq", "km"],
    "m2": ["sq", "m"],
    "kmh": ["km", "h"],
    "kph": ["km", "h"],
    "mph": ["mi", "h"],
}
MONEY = {"$": "usd", "€": "eur", "£": "gbp", "¥": "jpy", "₹": "inr", "₩": "krw", "₽": "rub"}
DOLLARS = {
    "us": "usd", "u.s.": "usd", "u.s": "usd", "a": "aud", "au": "aud", "c": "cad", "ca": "cad",
    "hk": "hkd",
    "nz": "nzd", "s": "sgd",
}  # fmt: skip
# "US$5" and "A$ 5", but not the end of a word before a dollar sign.
DOLLAR_PREFIX = re.compile(r"(?<![\w.])(" + "|".join(map(re.escape, DOLLARS)) + r")\s?\$(?=\s?\d)")
US_DOLLARS = re.compile(r"\b(?:us|u\.s\.?|american)\s+(?=dollars?\b)")
CURRENCY_CODES = frozenset({"usd", "eur", "gbp", "jpy", "inr", "krw", "rub", *DOLLARS.values()})
SCALE_LETTERS = {
    "k": "thousand", "m": "million", "mn": "million", "mln": "million", "mio": "million",
    "b": "billion",
    "bn": "billion", "bln": "billion", "tn": "trillion", "trn": "trillion",
}  # fmt: skip
SCALE_NAMES = {
    "thousands": "thousand",
    "millions": "million",
    "billions": "billion",
    "trillions": "trillion",
}


def numbered(words: str, first: int, step: int = 1) -> dict[str, int]:
    """The numbers that a row of words stands for: ``first``, ``first + step`` and so on."""
    return dict(zip(words.split(), itertools.count(first, step)))


SMALL = numbered(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    " fifteen sixteen seventeen eighteen nineteen",
    first=0,
)
TENS = numbered("twenty thirty forty fifty sixty seventy eighty ninety", first=20, step=10)
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
ORDINALS = numbered(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
    " thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth",
    first=1,
) | {word[:-1] + "ieth": value for word, value in TENS.items()}

APOSTROPHES = dict.fromkeys(map(ord, "'’‘ʻʼ`´′"), "")
LETTERS = str.maketrans(
    {
        "ø": "o",
        "đ": "d",
        "ł": "l",
        "ð": "d",
        "þ": "th",
        "æ": "ae",
        "œ": "oe",
        "ı": "i",
        "&": " and ",
    }
)
ORDINAL_ENDINGS = {1: "st", 2: "nd", 3: "rd"}
MARKS = re.compile("[\u0300-\u036f]")
# The full stop behind a single letter, with the blank before the next initial.
INITIALS = re.compile(r"(?<=\b[^\W\d_])\.(?:\s(?=[^\W\d_]\.))?")
# A hyphen is a minus only where nothing stands directly before it: "3-5" is a range.
TOKEN = re.compile(
    r"(?P<number>(?:(?<![\w.,)%])[-−–])?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?)"
    r"(?P<ordinal>(?:st|nd|rd|th)\b)?"
    r"|(?P<sign>[$€£¥₹₩₽%°])"
    r"|(?P<word>[^\W\d_]\w*(?:[+#]+(?!\w))?)"
)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
# "1914–18" has its second year cut to two digits.
SHORT_YEARS = re.compile(r"(?<![\d.,])(\d\d)(\d\d)\s?[-–/]\s?(\d\d)(?![\d.,/-])")


def fold(text: str) -> str:
    """Lower case, without accents and apostrophes, in compatibility width."""
    text = (
        unicodedata.normalize("NFKC", text)
        .casefold()
        .translate(LETTERS)
        .translate(APOSTROPHES)
        .replace("per cent", "percent")
    )
    if text.isascii():
        return text
    # Decomposed, an accent is a sign of its own.
    return unicodedata.normalize("NFC", MARKS.sub("", unicodedata.normalize("NFD", text)))


def canonical_words(text: str) -> list[str]:
    """The canonical words of ``text``; see the module. Empty for a text of only punctuation."""
    # Initials lose their full stops before they are told apart: "J. K." is "jk".
    text = SHORT_YEARS.sub(full_years, INITIALS.sub("", fold(text)))
    tokens = numbers_as_digits(tokenize(text))
    kept = [token for token in tokens if token not in ARTICLES] or tokens
    return join_ranges(kept)


def full_years(years: re.Match[str]) -> str:
    century, first, last = years.groups()
    if int(last) <= int(first):
        return years[0]
    return f"{century}{first}-{century}{last}"


def tokenize(text: str) -> list[str]:
    """Words, numbers and unit signs of folded text; a money sign moves behind its number."""
    tokens: list[str] = []
    money = ""
    owed = ""  # the currency whose amount is being read: it stands behind the amount's scale
    text = US_DOLLARS.sub("", DOLLAR_PREFIX.sub(currency_before, text))
    for match in TOKEN.finditer(text):
        kind, token = match.lastgroup, match.group()
        name = UNIT_OF.get(token.replace("_", ""), token)
        if kind in ("number", "ordinal") or match.group("number"):
            if owed:
                tokens.append(owed)
            if kind != "ordinal":
                token = canonical_digits(token)
            tokens.append(token)
            money, owed = "", money
            continue
        if owed and token in SCALE_LETTERS:
            tokens.append(SCALE_LETTERS[token])
            continue
        if token in SCALES or token in SCALE_NAMES:
            tokens.append(SCALE_NAMES.get(token, token))
            continue
        if owed and name != owed:  # "$5 dollars" names its currency once
            tokens.append(owed)
        owed = ""
        if kind == "sign":
            money = MONEY.get(token, "")
            if token == "%":
                tokens.append("percent")
            elif not money:
                tokens.append("degree")
        elif name in CURRENCY_CODES and amount_follows(match):
            money = name
        elif token in AREAS:
            tokens += AREAS[token]
        else:
            tokens.append(name)
    if owed:
        return [*tokens, owed]
    return tokens


def currency_before(match: re.Match[str]) -> str:
    """The code in place of a sign with a country, "US$" or "A$"."""
    return f" {DOLLARS[match.group(1)]} "


def amount_follows(match: re.Match[str]) -> bool:
    return re.match(r"\s*[-−]?\d", match.string[match.end() :]) is not None


def canonical_digits(number: str) -> str:
    """``-01,200.50`` as ``-1200.5``."""
    sign = ""
    if number[0] in "-−–":
        sign = "-"
    whole, _, part = number.lstrip("-−–").replace(",", "").partition(".")
    part = part.rstrip("0")
    plain = whole.lstrip("0") or "0"
    if part:
        plain += f".{part}"
    if plain == "0":
        return plain
    return sign + plain


def numbers_as_digits(tokens: list[str]) -> list[str]:
    """Number words and scales become digits, ordinals words become "21st"."""
    out: list[str] = []
    position = 0
    while position < len(tokens):
        token = tokens[position]
        if token in ORDINALS:
            out.append(ordinal_digits(ORDINALS[token]))
            position += 1
        elif token in SMALL or token in TENS or token == "hundred" or token in SCALES:
            value, position = parse_number_words(tokens, position)
            following = ""
            if position < len(tokens):
                following = tokens[position]
            if 20 <= value % 100 and value % 10 == 0 and 0 < ORDINALS.get(following, 99) < 10:
                out.append(ordinal_digits(value + ORDINALS[following]))
                position += 1
            else:
                out.append(str(value))
        elif NUMBER.fullmatch(token) and len(token) < 30:
            amount = Fraction(token)
            start = position = position + 1
            while position < len(tokens) and tokens[position] in SCALES and position - start < 2:
                amount *= SCALES[tokens[position]]
                position += 1
            if position > start:
                token = decimal_digits(amount)
            out.append(token)
        else:
            out.append(token)
            position += 1
    return out


def parse_number_words(tokens: list[str], position: int) -> tuple[int, int]:
    """The longest English number starting at ``position``, and where it ends."""
    total, group, floor = 0, 0, 10**15
    start = position
    while position < len(tokens):
        token = tokens[position]
        if token in SMALL or token in TENS:
            value = SMALL.get(token, TENS.get(token, 0))
            # A number below ten fits behind tens, all others only where nothing is below 100.
            room = 100
            if value < 10:
                room = 10
            if (
                group % room
                or (position > start and value == 0)
                or (group and group % 100 in range(10, 20))
            ):
                break
            group += value
        elif token == "hundred" and group < 100 and (group or position == start):
            group = max(group, 1) * 100
        elif token in SCALES and SCALES[token] < floor and (group or position == start):
            floor = SCALES[token]
            total, group = total + max(group, 1) * floor, 0
        elif (
            token == "and"
            and tokens[position - 1] in ("hundred", "thousand")
            and position + 1 < len(tokens)
        ):
            if tokens[position + 1] not in SMALL and tokens[position + 1] not in TENS:
                break
        else:
            break
        position += 1
    return total + group, position


def decimal_digits(value: Fraction) -> str:
    whole, rest = divmod(value, 1)
    if not rest:
        return str(whole)
    return canonical_digits(f"{float(value):.6f}")


def ordinal_digits(value: int) -> str:
    if value % 100 in (11, 12, 13):
        return f"{value}th"
    return f"{value}{ORDINAL_ENDINGS.get(value % 10, 'th')}"


def join_ranges(tokens: list[str]) -> list[str]:
    """Without a hedge before a number and a connector between two: "about 3 to 5" and "3–5" are one
    wording.
    """
    out: list[str] = []
    for position, token in enumerate(tokens):
        after = ""
        if position + 1 < len(tokens):
            after = tokens[position + 1]
        if NUMBER.fullmatch(after):
            if token in HEDGES or (token in ("from", "between") and not out):
                continue
            if token in CONNECTORS and out and (NUMBER.fullmatch(out[-1]) or out[-1] in UNITS):
                continue
        if token == "per" and out and out[-1] in UNITS and after in UNITS:
            continue
        out.append(token)
    return out
