r"""Answers that are words and not algebra, and numbers in words.

``\text{even}``, "Monday" and "no" are words: a product of letters is compared by algebra, in which
"on" would equal "no". "y x", "p - q" and "x sin x" are algebra, "twenty-one" and "two thirds" are
numbers.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from agentflow_verl.rewards.qa.normalize import canonical_words

WORDS = re.compile(r"[^\W\d_]+(?:[ '’-]+[^\W\d_]+)*", re.DOTALL)
TEXT_COMMAND = re.compile(r"\\(?:text|textbf|mathrm|textrm|mbox|operatorname)\s?\{([^{}]*)\}")
VOWEL = re.compile(r"[aeiouAEIOU]")
# Words that the algebra reads as numbers.
NAMES_OF_NUMBERS = frozenset({"pi", "e", "i", "infinity", "infty", "inf", "oo"})
NAMES_OF_FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log exp max min gcd lcm sqrt"
    " cbrt".split()
)
SHORT_WORDS = frozenset(
    "no on in up or if is it an at by to go we he me my us do so as am of ok not any all odd "
    "yes".split()
)
DENOMINATORS = {
    "half": 2, "halves": 2, "third": 3, "fourth": 4, "quarter": 4, "fifth": 5, "sixth": 6,
    "seventh": 7, "eighth": 8,
    "ninth": 9, "tenth": 10, "twelfth": 12, "twentieth": 20, "hundredth": 100, "thousandth": 1000,
}  # fmt: skip
NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
SIGN_WORD = re.compile(r"(?i)^\s*(?:negative|minus)\s+")


def word_answer(text: str) -> str | None:
    """The words that ``text`` consists of in one writing; None where it is algebra or a number."""
    bare = TEXT_COMMAND.sub(r"\1", text)
    folded = " ".join(unicodedata.normalize("NFKC", bare).casefold().split())
    if not WORDS.fullmatch(folded) or folded in NAMES_OF_NUMBERS:
        return None
    # In a \\text command even "xy" is a word.
    if bare != text and len(folded) > 1:
        return folded
    # "p-q", "y x" and "x sin x" are algebra.
    for part in re.split("[ '’-]+", folded):
        if is_word(part) and part not in NAMES_OF_FUNCTIONS | NAMES_OF_NUMBERS:
            return folded
    return None


def is_word(letters: str) -> bool:
    """Whether letters without blanks are a word and not a product of variables (xy, abc, mn)."""
    if letters in SHORT_WORDS:
        return True
    if len(letters) < 3 or not VOWEL.search(letters):
        return False
    # Consecutive letters (abc, mnop) name points or variables.
    codes = sorted(map(ord, letters))
    consecutive = codes == list(range(codes[0], codes[0] + len(codes)))
    return not consecutive


def spelled_number(text: str) -> Fraction | None:
    """The number that English words say: "twenty-one", "minus two thirds", "2 and a half"."""
    bare = TEXT_COMMAND.sub(r"\1", text).strip()
    if not re.search("[a-zA-Z]{3}", bare) or re.search(r"[\\^={}]", bare) or len(bare) > 120:
        return None
    negative = SIGN_WORD.match(bare)
    if not negative:
        return unsigned_number(bare)
    value = unsigned_number(bare[negative.end() :])
    if value is None:
        return None
    return -value


def unsigned_number(text: str) -> Fraction | None:
    whole, _, part = text.rpartition(" and ")
    if whole and last_word(part) in DENOMINATORS:
        value, rest = unsigned_number(whole), unsigned_number(part)
        if value is not None and rest is not None:
            return value + rest
        return None
    name = last_word(text)
    if name in DENOMINATORS:
        count = text.lower().replace("-", " ").split()[:-1]
        if count in ([], ["a"], ["an"]):
            above: Fraction | None = Fraction(1)
        else:
            above = whole_number(" ".join(count))
        if not count and name not in ("half", "quarter"):
            return None  # "third" alone is a place in an order
        if above is not None:
            return above / DENOMINATORS[name]
        return None
    return whole_number(text)


def last_word(text: str) -> str:
    words = text.lower().replace("-", " ").split()
    name = ""
    if words:
        name = words[-1]
    if name in DENOMINATORS:
        return name
    return name.removesuffix("s")


def whole_number(text: str) -> Fraction | None:
    words = canonical_words(text)
    ordinal = None
    if len(words) == 1:
        ordinal = re.fullmatch(r"([0-9]+)(?:st|nd|rd|th)", words[0])
    if ordinal:
        return Fraction(ordinal.group(1))
    if len(words) == 1 and NUMBER.fullmatch(words[0]):
        return Fraction(words[0])
    return None
