"""Whether a text is, or holds, the text of an option: by its signs or by its words.

A number is one word with its sign, point and denominator, and a sign that compares or calculates is
a word: "2.5 m" does not hold "5 m", nor "1/16" or "3*16" the option 16.
"""

from __future__ import annotations

import re
import unicodedata

FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{([^{}]*)\}|([0-9]))\s*(?:\{([^{}]*)\}|([0-9]))")
MARKUP = re.compile(r"\\(?:text|textbf|mathbf|mathrm|boxed)(?![a-zA-Z])|[{}$`]|\*\*|__|\\[()\[\]]")
MINUS_SIGNS = str.maketrans("−–", "--")
THOUSANDS = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")
OUTER_MARKS = " ,;:!?'\"“”‘’"
# A minus sign may stand apart from its number where nothing can be subtracted from.
MINUS_APART = re.compile(r"(?:(?<=[=<>≤≥≠(\[^*/,:])|^)(\s*-)\s+(?=[.0-9])")
OPERATOR_APART = re.compile(r"(?<=[\w)])\s?([*/])\s?(?=[\w(])|(?<=\d)\s(-)\s(?=\d)")
WORD = re.compile(
    r"(?:(?<![\w.)\]])-)?(?:\d+(?:\.\d+)?|\.\d+)(?:/\d+)*[^\W_]*|[^\W_]+"
    r"|[%+<>=≤≥≠≈↑↓√^]|(?<=[\w)])[*/](?=[\w(])|(?<=\d)-(?=\d)"
)
# Beside these an option's number is part of an expression.
SIGNS_BEFORE = frozenset("√ ^ * / + - < > ≤ ≥ ≠ sqrt frac".split())
SIGNS_BEHIND = frozenset("^ * / + - %".split())


def plain_text(text: str) -> str:
    """``text`` without LaTeX wrappers and emphasis; a fraction as ``a/b``."""
    text = unicodedata.normalize("NFKC", text).replace("⁄", "/")
    return MARKUP.sub(" ", FRACTION.sub(quotient, text)).strip()


def quotient(fraction: re.Match[str]) -> str:
    return "/".join(part.strip() for part in fraction.groups() if part)


def comparable_text(text: str) -> str:
    """Case, width, blanks and outer punctuation do not count; signs inside do (arrows, %, +), and
    so does the point of ".5".
    """
    text = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    inner = text.strip(OUTER_MARKS)
    if not re.match(r"\.[0-9]", inner):
        inner = inner.lstrip("." + OUTER_MARKS)
    return inner.rstrip("." + OUTER_MARKS) or text


def comparable_words(text: str) -> str:
    """The words, blank-separated: for texts that differ in hyphens and commas."""
    text = unicodedata.normalize("NFKC", text).casefold().translate(MINUS_SIGNS)
    text = MINUS_APART.sub(r"\1", THOUSANDS.sub("", text))
    return " ".join(WORD.findall(OPERATOR_APART.sub(r"\1\2", text)))


def options_with_text(options: dict[str, str], text: str) -> list[str]:
    """Letters of the options with this comparable text."""
    sought = comparable_text(text)
    return [letter for letter, option in options.items() if comparable_text(option) == sought]


def options_with_words(options: dict[str, str], text: str) -> list[str]:
    """Letters of the options with these words, whatever stands between them."""
    sought = comparable_words(text)
    if not sought:
        return []
    return [letter for letter, option in options.items() if comparable_words(option) == sought]


def options_within(text: str, options: dict[str, str]) -> list[str]:
    """Letters of the options whose words stand in ``text``; one that is part of a longer such
    option is left out.
    """
    words = comparable_words(text).split()
    found = {}
    for letter, option in options.items():
        sought = comparable_words(option)
        # A text of one letter would be found in any sentence with an article.
        if len(sought) > 1 and places_of(sought.split(), words):
            found[letter] = f" {sought} "
    longest = []
    for letter, option in found.items():
        if not any(option != other and option in other for other in found.values()):
            longest.append(letter)
    return longest


def places_of(sought: list[str], words: list[str]) -> list[int]:
    """Where ``sought`` stands in ``words`` and is no part of an expression."""
    places = []
    for start in range(len(words) - len(sought) + 1):
        end = start + len(sought)
        if words[start:end] != sought:
            continue
        before, behind = words[start - 1 : start], words[end : end + 1]
        if not SIGNS_BEFORE.intersection(before) and not SIGNS_BEHIND.intersection(behind):
            places.append(start)
    return places
