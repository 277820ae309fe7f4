r"""Answers that repeat what the question asks to work out, in place of its value.

"186 + 308" is no answer to "What is 186 + 308?", nor is ``\gcd(186, 308)`` to a question for their
greatest common divisor, though both equal the gold answer. A plain number that the question offers
("Which is smaller, 1/2 or 2/3?") is one, unless it is the one to be converted ("Write 3/4 as a
decimal"), and so is a closed form that the question does not hold (``2^{10}`` for the subsets of
ten elements). reasoning-gym's own scorers accept numerals only, and its fractions only in lowest
terms; data sources below ``reasoning_gym/`` are held to that.
"""

from __future__ import annotations

import math
import re
from collections import Counter

FRACTION = re.compile(
    r"-?\s*(?:\\frac\s*\{\s*(-?[0-9]+)\s*\}\s*\{\s*([0-9]+)\s*\}|([0-9]+)\s*/\s*([0-9]+))"
)
NUMERAL = re.compile(r"[0-9]+(?:\.[0-9]+)?")
# Only before exactly three digits: in "gcd(308,1860)" the comma separates arguments.
THOUSANDS = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))|\{,\}")
# A sign is an operation only behind an operand: in "-5" it belongs to the number.
OPERATION = re.compile(
    r"(?<=[0-9a-zA-Z)}!])\s*[-+*/^:∗∙]|-\s*[-({]|!|\\over(?![a-z])"
    r"|\\(?:times|cdot|div|frac|sqrt|binom|[a-z]?log|ln)"
)
NAMED = re.compile(
    r"[√|]|\\(?:[lr]?vert|cup|cap)(?![a-zA-Z])|(?<![a-zA-Z])(?:arc)?(?:sin|cos|tan)(?![a-zA-Z])"
    r"|\\?(?:gcd|lcm|max|min|sum|prod|int|lim|mod|lfloor|lceil|floor|ceil|det|sqrt|binom)(?![a-zA-Z])"
)
UNWORKED = re.compile(
    r"\\?(?:gcd|lcm|hcf|max|min|sum|prod|int|lim|bmod|pmod|mod|lfloor|lceil|floor|ceil|det)(?![a-zA-Z])",
    re.IGNORECASE,
)
ASKED_IN_WORDS = re.compile(
    r"(?i)\b(?:sum|product|difference|quotient|remainder) (?:of|between|when)\b"
    r"|\b(?:square|cube) root of\b|\bsquared\b|\bcubed\b|\bto the power\b|\bfactorial\b"
)
EXPRESSION = re.compile(r"(?:[-+*/^()\[\]!.,%]|[0-9]|\s)+")
# In order, blanks and brackets last: ``canonical_runs`` leaves those two out.
SPELLINGS = [
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])|[×·⋅∗∙•]"), "*"),
    (re.compile(r"√\s*"), r"\\sqrt"),
    (re.compile(r"\\div(?![a-zA-Z])|[÷∕⁄]"), "/"),
    (re.compile(r"[−–—]"), "-"),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\frac\s*([0-9])\s*([0-9])"), r"(\1)/(\2)"),
    (re.compile(r"\\sqrt\s*\{([^{}]*)\}"), r"\\sqrt(\1)"),
    (re.compile(r"(?i)\b(?:times|multiplied by)\b"), "*"),
    (re.compile(r"(?i)\b(?:divided by)\b"), "/"),
    (re.compile(r"(?i)\bplus\b"), "+"),
    (re.compile(r"(?i)\bminus\b"), "-"),
    (re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"(\1)/(\2)"),
    (
        re.compile(
            r"\\(?:left|right|displaystyle|limits|quad)(?![a-zA-Z])|\\[,;:! ()\[\]]|[$`\s]"
        ),
        "",
    ),
    (re.compile(r"[{}()\[\]]"), ""),
]  # fmt: skip
FRACTION_TASK = "reasoning_gym/fraction_simplification"
SIMPLIFY = re.compile(r"(?i)simplif|lowest terms|reduce|simplest")
CONVERT = re.compile(
    r"(?i)\b(?:express|convert|write|rewrite|change)\b[^?!]{0,200}?\b(?:as|to|into|in)\s+(?:an?\s+)?"
    r"(?:(?:common|simplified|improper|reduced)\s+)?(?:fraction|decimal|percent|mixed number)"
)
WHOLE_NUMBER = re.compile(r"[-+]?\s*[0-9][0-9,]*")
# A letter that is not part of a LaTeX command.
LETTER = re.compile(r"(?<![\\a-z])[a-z]")


def stands_in(answer: str, question: str) -> bool:
    """Whether ``answer`` stands in ``question`` as it is and is something to work out there: an
    expression, a fraction that is not in lowest terms, or the number that is to be converted.
    """
    sought = canonical(answer)
    if not sought or WHOLE_NUMBER.fullmatch(answer.strip()):
        return False
    # Without backslashes, so that "cos(pi)" stands where LaTeX has its commands.
    if not holds(canonical(question).replace("\\", ""), sought.replace("\\", "")):
        return False
    if CONVERT.search(question) and re.search("[0-9]", sought) and not LETTER.search(sought):
        return True
    fraction = FRACTION.fullmatch(answer.strip())
    if fraction:
        return unreduced(fraction)
    return len(sought) > 2 and is_expression(answer)


def is_expression(answer: str) -> bool:
    return bool(OPERATION.search(answer) or NAMED.search(answer))


def restates(answer: str, question: str, data_source: str) -> bool:
    """Whether ``answer`` (without wrappers) is made of the numbers of ``question`` and not worked
    out.
    """
    exercise = data_source.startswith("reasoning_gym/")
    fraction = FRACTION.fullmatch(answer.strip())
    if fraction:
        return unreduced(fraction) and (exercise or SIMPLIFY.search(question) is not None)
    if data_source == FRACTION_TASK and "." in answer:
        return True
    if not is_expression(answer):
        return False
    if exercise:
        return True
    if not question:
        return False
    if UNWORKED.search(answer):
        answer = answer.replace(",", " ")  # gcd(308,186) has two arguments
    numerals = significant_numerals(answer)
    # A letter that stands alone is a variable: numerals do not tell such expressions apart.
    if not numerals or re.search(r"(?<![\\a-zA-Z])[a-zA-Z](?![a-zA-Z])", answer):
        return False
    if UNWORKED.search(answer) or ASKED_IN_WORDS.search(question):
        return not numerals - significant_numerals(question)
    for run in EXPRESSION.findall(canonical_runs(question)):
        if OPERATION.search(run.strip()) and significant_numerals(run) == numerals:
            return True
    return False


def unreduced(fraction: re.Match[str]) -> bool:
    """Whether a fraction has a smaller writing: 4/6, or 3/1 for 3."""
    above, below = int(fraction[1] or fraction[3]), int(fraction[2] or fraction[4])
    return below == 1 or math.gcd(above, below) > 1


def canonical(text: str) -> str:
    """``text`` without blanks, brackets and the differences between spellings of one sign."""
    text = THOUSANDS.sub("", text)
    for pattern, sign in SPELLINGS:
        text = pattern.sub(sign, text)
    return text.casefold()


def canonical_runs(question: str) -> str:
    text = THOUSANDS.sub("", question)
    for pattern, sign in SPELLINGS[:-2]:
        text = pattern.sub(sign, text)
    return text


def holds(question: str, expression: str) -> bool:
    """Whether ``expression`` stands in ``question`` and not within a longer numeral."""
    # "2+3" does not stand in "12+35".
    start = question.find(expression)
    while start >= 0:
        before, after = question[start - 1 : start], question[start + len(expression) :][:1]
        touching = (before.isdigit() and expression[0].isdigit()) or (
            after.isdigit() and expression[-1].isdigit()
        )
        if not touching:
            return True
        start = question.find(expression, start + 1)
    return False


def significant_numerals(text: str) -> Counter[str]:
    """The numerals of ``text`` with their counts, without 0 and 1, which change no value."""
    found: Counter[str] = Counter()
    for numeral in NUMERAL.findall(THOUSANDS.sub("", text)):
        numeral = numeral.lstrip("0")
        if numeral not in ("", "1"):
            found[numeral] += 1
    return found
