r"""Maths answers: plain numbers exactly, everything else through math-verify in a bounded worker
process.

An answer is right when it is the gold answer's text, the same number (``quantity.py``), or an equal
expression, set, interval, tuple, matrix, equation or inequality as math-verify
(https://github.com/huggingface/Math-Verify, on SymPy) judges it. Text is tidied first: wrappers
(``$…$``, ``\boxed{…}``, ``\text{…}``), spacing commands, Unicode signs and ``sqrt(…)``, ``**``,
``*`` become plain LaTeX.

Guards: answers beyond ``MAX_CHARS``, deeper than ``MAX_DEPTH`` or with numerals or exponents beyond
    ``MAX_DIGITS`` and ``MAX_EXPONENT_DIGITS`` digits are wrong unless they are the gold's text; the
    rest is compared within two CPU seconds.

Blind spots: ``(1,2)`` is read both as a point and as an open interval; "1,234" is one number and
never a list; a unit on one side only is ignored and units are not converted; letter case of
variables is not told apart; a decimal is not a rounded surd (``9.4248`` for ``3\pi``); number
bases, "impossible" and other words match as text only; of several gold answers any one suffices.
"""

from __future__ import annotations

import re
from typing import Any

from agentflow_verl.rewards.math.algebra import equal_expressions
from agentflow_verl.rewards.math.numbers import equal, read_quantity, split_unit
from agentflow_verl.rewards.score import GroundTruth, Score, gold_answers, right, wrong

MAX_CHARS = 500
MAX_DEPTH = 25
MAX_DIGITS = 200
MAX_EXPONENT_DIGITS = 4

SIGNS = {
    "−": "-", "–": "-", "—": "-", "×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ", "÷": r"\div ", "π": r"\pi ",
    "∞": r"\infty ", "°": r"^{\circ}", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "±": r"\pm ", "∪": r"\cup ",
    "∩": r"\cap ", "∈": r"\in ", "²": "^{2}", "³": "^{3}", "⁻": "^-", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}", "θ": r"\theta ", "％": "%", "，": ",", "（": "(", "）": ")", "　": " ", "\u00a0": " ",
}  # fmt: skip
SIGN_TABLE = str.maketrans(SIGNS)
SPACING = re.compile(
    r"\\(?:displaystyle|left|right|limits|big|Big|bigg|Bigg|quad|qquad)(?![a-zA-Z])|\\[!;:]|~"
)
FRACTIONS = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
WRAPPERS = [
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"\$\$([^$]*)\$\$",
        r"\$([^$]*)\$",
        r"\\\((.*)\\\)",
        r"\\\[(.*)\\\]",
        r"\\(?:boxed|fbox|text|textbf|mathbf|mathrm|textrm)\s?\{([^{}]*)\}",
        r"\\boxed\s?\{(.*)\}",
        r"\*\*([^*]*)\*\*",
        r"`([^`]*)`",
    )
]
INLINE = re.compile(r"\$([^$]+)\$|\\\((.+?)\\\)", re.DOTALL)
ROOT_SIGN = re.compile(r"√\s*(?:\(([^()]*)\)|\{([^{}]*)\}|([0-9]+|[a-zA-Z]))")
ROOT_CALL = re.compile(r"(?<![\\a-zA-Z])sqrt\s*\(([^()]*)\)")
NAMES = re.compile(r"(?<![\\a-zA-Z])(pi|sin|cos|tan|log|ln|exp)(?![a-zA-Z])")
TIMES = re.compile(r"(?<=[0-9a-zA-Z)\]}])\s*\*\s*(?=[0-9a-zA-Z(\\\-{])")
LONG_NUMERAL = re.compile(rf"[0-9]{{{MAX_DIGITS + 1}}}")
BIG = f"[0-9]{{{MAX_EXPONENT_DIGITS + 1}}}"
LONG_EXPONENT = re.compile(rf"(?:\^|\*\*)[\s({{]*-?{BIG}|{BIG}[\s)}}]*!")


def score(answer: str, ground_truth: GroundTruth, **extra: Any) -> Score:
    """1 when ``answer`` equals any gold answer.

    Raises:
        ConfigError: no gold answer, or math-verify is missing.
        InfraError: the algebra's worker processes cannot run.
    """
    golds = gold_answers(ground_truth)
    if not answer.strip():
        return wrong("empty answer")
    if any(answer.strip() == gold.strip() for gold in golds):
        return right("same text")
    refusal = too_large(answer)
    if refusal:
        return wrong(refusal)
    why = ""
    for gold in golds:
        same, why = agree(tidy(answer), tidy(gold))
        if same:
            return right(why)
    return wrong(why)


def too_large(answer: str) -> str:
    """Why the algebra is not tried on ``answer``, or ""."""
    if len(answer) > MAX_CHARS:
        return f"longer than {MAX_CHARS} characters"
    depth = deepest = 0
    for sign in answer:
        depth += (sign in "({[") - (sign in ")}]")
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        return f"nested deeper than {MAX_DEPTH}"
    if LONG_NUMERAL.search(answer):
        return f"a numeral of more than {MAX_DIGITS} digits"
    if LONG_EXPONENT.search(answer):
        return f"an exponent or factorial of more than {MAX_EXPONENT_DIGITS} digits"
    return ""


def agree(answer: str, gold: str) -> tuple[bool, str]:
    """Whether two tidied texts say the same, and why or why not."""
    if not answer or not gold:
        return False, "empty answer"
    if squeezed(answer) == squeezed(gold):
        return True, "same text"
    given, wanted = read_quantity(answer), read_quantity(gold)
    if given and wanted:
        return (True, "same number") if equal(given, wanted) else (False, "different numbers")
    (answer, given_unit), (gold, wanted_unit) = split_unit(answer), split_unit(gold)
    if given_unit and wanted_unit and given_unit != wanted_unit:
        return False, "different units"
    return equal_expressions(latex(gold), latex(answer))


def squeezed(text: str) -> str:
    return "".join(text.split()).replace(r"\,", "").casefold()


def tidy(text: str) -> str:
    """``text`` without wrappers and sentence marks, in plain signs; the one ``$…$`` of a sentence
    stands for it.
    """
    text = FRACTIONS.sub(r"\\frac", SPACING.sub(" ", strip(text)))
    for _ in range(4):
        for wrapper in WRAPPERS:
            match = wrapper.fullmatch(text)
            if match:
                text = strip(match.group(1))
                break
        else:
            break
    inline = [match for match in INLINE.finditer(text)] if "$" in text or r"\(" in text else []
    if len(inline) == 1:
        text = strip(inline[0].group(1) or inline[0].group(2))
    return text.translate(SIGN_TABLE).strip()


def strip(text: str) -> str:
    return text.strip().rstrip(".,;:").removeprefix("=").strip()


def latex(text: str) -> str:
    """Calculator spellings as LaTeX."""
    text = ROOT_SIGN.sub(
        lambda match: r"\sqrt{" + next(filter(None, match.groups()), "") + "}", text
    )
    for _ in range(3):
        text = ROOT_CALL.sub(r"\\sqrt{\1}", text)
    text = NAMES.sub(r"\\\1 ", text.replace("**", "^"))
    return TIMES.sub(r" \\cdot ", text)
