"""One canonical wording of a short answer: what question answering compares.

    canonical_words("The Twenty-First of  US$1,200.50")  ->  ["21st", "of", "us", "1200.5", "usd"]

Case, accents, width, articles, punctuation and hyphens go; numbers become plain digits whether
written in digits, words or both ("2.5 million"); ordinals become "3rd"; common units, money signs
and eras get one name each. Dates are read apart, by ``dates_in``, since their order carries no
meaning.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

ARTICLES = frozenset({"a", "an", "the"})
HEDGES = frozenset(
    {"about", "approximately", "approx", "around", "roughly", "circa", "nearly", "almost"}
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
    "sq": "sq square",
    "h": "h hr hrs hour hours",
    "min": "min mins minute minutes",
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
UNIT_OF = {name: unit for unit, names in UNITS.items() for name in names.split()}
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

SMALL = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
        " fifteen sixteen seventeen eighteen nineteen".split()
    )
}
TENS = {
    word: 10 * value
    for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
ORDINALS = {
    word: value
    for value, word in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
        " thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth".split(),
        1,
    )
} | {word[:-1] + "ieth": value for word, value in TENS.items()}

MONTHS = {
    name: number
    for number, name in enumerate(
        (
            "january february march april may june july august september october november december"
        ).split(),
        1,
    )
}
MONTHS |= {name[:3]: number for name, number in MONTHS.items()} | {"sept": 9}
WEEKDAYS = frozenset(
    "monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thur thurs fri"
    " sat sun".split()
)
DATE_FILLERS = WEEKDAYS | {"of", "the", "on", "in", "st", "nd", "rd", "th"}
MAX_DATE_CHARS = 48

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
MARKS = re.compile("[\u0300-\u036f]")
INITIALS = re.compile(r"(?<=\b[^\W\d_])\.(?:\s(?=[^\W\d_]\.))?")
TOKEN = re.compile(
    r"(?P<number>(?:(?<![\w.,)%])[-−–])?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?)"
    r"(?P<ordinal>(?:st|nd|rd|th)\b)?"
    r"|(?P<sign>[$€£¥₹₩₽%°])"
    r"|(?P<word>[^\W\d_]\w*(?:[+#]+(?!\w))?)"
)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


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
    return unicodedata.normalize("NFC", MARKS.sub("", unicodedata.normalize("NFD", text)))


def canonical_words(text: str) -> list[str]:
    """The canonical words of ``text``; see the module. Empty for a text of only punctuation."""
    tokens = numbers_as_digits(tokenize(INITIALS.sub("", fold(text))))
    kept = [token for token in tokens if token not in ARTICLES] or tokens
    return join_ranges(kept)


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
            tokens += [owed] if owed else []
            tokens.append(token if kind == "ordinal" else canonical_digits(token))
            money, owed = "", money
            continue
        if owed and token in SCALE_LETTERS:
            tokens.append(SCALE_LETTERS[token])
            continue
        if token in SCALES or token in SCALE_NAMES:
            tokens.append(SCALE_NAMES.get(token, token))
            continue
        tokens += [owed] if owed and name != owed else []
        owed = ""
        if kind == "sign":
            money = MONEY.get(token, "")
            if not money:
                tokens.append("percent" if token == "%" else "degree")
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
    plain = (whole.lstrip("0") or "0") + (f".{part}" if part else "")
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
            out.append(decimal_digits(amount) if position > start else token)
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
            if token in TENS:
                room = 100
            else:
                room = 10 if value < 10 else 100
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
    ending = (
        "th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    )
    return f"{value}{ending}"


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


def dates_in(text: str) -> frozenset[tuple[int | None, int, int | None]]:
    """The (year, month, day) that the *whole* text may mean; empty when it is no date or an
    ambiguous one ("4/5/1999").
    """
    if len(text) > MAX_DATE_CHARS or not any(sign.isdigit() for sign in text):
        return frozenset()
    text = fold(text).strip(" .,;")
    numeric = re.fullmatch(r"(\d{1,4})([-/.])(\d{1,2})\2(\d{1,4})", text)
    if numeric:
        first, middle, last = numeric.group(1), int(numeric.group(3)), numeric.group(4)
        if len(first) == 4 and len(last) <= 2:
            return valid_dates((int(first), middle, int(last)))
        if len(first) <= 2 and len(last) == 4:
            # 4/5/1999 is a day in April or in May: it states neither
            months = {int(first), middle}
            both = len(months) == 2 and max(months) <= 12
            readings = (int(last), int(first), middle), (int(last), middle, int(first))
            if both:
                return frozenset()
            return valid_dates(*readings)
        return frozenset()
    if not re.fullmatch(r"[a-z0-9\s,./-]+", text):
        return frozenset()
    parts = [part for part in re.findall(r"[a-z]+|\d+", text) if part not in DATE_FILLERS]
    if not 2 <= len(parts) <= 3 or sum(part in MONTHS for part in parts) != 1:
        return frozenset()
    place = next(index for index, part in enumerate(parts) if part in MONTHS)
    numbers = [part for part in parts if part not in MONTHS]
    if not all(part.isdecimal() and len(part) <= 4 for part in numbers):
        return frozenset()
    years = [part for part in numbers if len(part) >= 3]
    days = [int(part) for part in numbers if len(part) < 3]
    if len(years) > 1 or len(days) > 1 or (place == 2 and len(parts) == 3):
        return frozenset()
    return valid_dates(
        (int(years[0]) if years else None, MONTHS[parts[place]], days[0] if days else None)
    )


def valid_dates(
    *dates: tuple[int | None, int, int | None],
) -> frozenset[tuple[int | None, int, int | None]]:
    return frozenset(
        date for date in dates if 1 <= date[1] <= 12 and (date[2] is None or 1 <= date[2] <= 31)
    )
