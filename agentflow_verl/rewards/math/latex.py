r"""Text of a model or a data set as LaTeX that the algebra reads.

``clean_answer`` takes wrappers (``$…$``, ``\boxed{…}``, ``\text{…}``, fences, emphasis), invisible
characters and sentence marks away and writes signs (x², ≤, full-width digits) in LaTeX;
``to_latex`` turns calculator spellings (``sqrt(2)``, ``2sqrt6``, ``x**2``, ``x^-1``, ``arctan(2)``)
into LaTeX.
"""

from __future__ import annotations

import re
import unicodedata

SIGNS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-", "×": r"\times ", "✕": r"\times ",
    "⋅": r"\cdot ", "·": r"\cdot ", "∙": r"\cdot ", "•": r"\cdot ", "∗": "*", "÷": r"\div ",
    "π": r"\pi ", "θ": r"\theta ", "∞": r"\infty ", "°": r"^{\circ}", "±": r"\pm ",
    "≤": r"\le ", "⩽": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≠": r"\ne ",
    "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∖": r"\setminus ", "∅": r"\emptyset ",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℚ": r"\mathbb{Q}", "ℕ": r"\mathbb{N}",
    "¬": r"\neg ", "∨": r"\lor ", "∧": r"\land ", "∣": "|", "⁄": "/", "…": r"\ldots ",
    "⟨": "(", "⟩": ")", "％": "%", "，": ",", "（": "(", "）": ")", "［": "[", "］": "]",
    "｛": r"\{", "｝": r"\}", "＄": "$", "　": " ", "\u00a0": " ", "＝": "=", "＋": "+", "－": "-",
    "／": "/", "．": ".",
}  # fmt: skip
# Full-width letters and digits lie this far above their ASCII forms.
FULL_WIDTH = {code: chr(code - 0xFEE0) for code in range(0xFF10, 0xFF5B) if chr(code).isalnum()}
SIGN_TABLE = {**str.maketrans(SIGNS), **FULL_WIDTH}
SENTENCE_MARKS = ".,;:。．、；：！"

RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿˣⁱ"
LOWERED = "₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙₓᵢ"
POWERS = re.compile(f"[{RAISED}]+")
INDICES = re.compile(f"[{LOWERED}]+")
RAISED_FRACTION = re.compile("([⁰¹²³⁴-⁹]+)[/⁄]([₀-₉]+)")
VULGAR_FRACTION = re.compile("[¼-¾⅐-⅞]")

SPACING = re.compile(
    r"\\(?:left|right)(?![a-zA-Z])(?:\s*\.(?![0-9]))?|\\[bB]igg?[lr]?(?![a-zA-Z])"
    r"|\\(?:displaystyle|limits|quad|qquad)(?![a-zA-Z])|\\[!;:]|(?<!\\)\\(?= )|~"
)
# At the end of a text these are blanks, too; a matrix has "\\\\" within.
SPACES_AT_END = (r"\,", r"\;", r"\:", r"\!", r"\\")
SHELLS = {
    "lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]", "langle": "(", "rangle": ")",
    "backslash": r"\setminus ",
}  # fmt: skip
SHELL = re.compile(r"\\(" + "|".join(SHELLS) + r")(?![a-zA-Z])")
# TeX sets "10,\!080" with a narrower blank behind the comma of the thousands.
NARROW_THOUSANDS = re.compile(r"(?<=[0-9])(?:,|\{,\})\s*\\[!;:,]\s*(?=[0-9]{3}(?![0-9]))")
# "{{1}}" is "{1}".
DOUBLED_BRACES = re.compile(r"(?<!\\)\{(\{[^{}]*\})\}")
MAX_BRACES = 25
# "\\{x \\mid x > 3\\}" is its condition; "(0,1) U (2,3)" means a union.
SET_OF = re.compile(
    r"\s*\\\{\s*[a-zA-Z]\s*(?:\\in\s*\\mathbb\s?\{?R\}?\s*)?(?:\\mid(?![a-zA-Z])|[:|])"
    r"([^:|]*)\\\}\s*"
)
RELATION = re.compile(r"[<>]|\\[lg]e(?:q|qslant)?(?![a-zA-Z])")
UNION = re.compile(r"(?<=[)\]])\s*U\s*(?=[(\[])")
FRACTIONS = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
# TeX takes one token for a missing brace: "\\frac12" is 1/2, "\\frac a2" is a/2.
SHORT_FRACTION = re.compile(
    r"\\frac\s*(?:\{([^{}]*)\}|([0-9a-zA-Z]))\s*(?:\{([^{}]*)\}|([0-9a-zA-Z]))"
)
SCIENTIFIC = re.compile(r"(?<![0-9a-zA-Z.])([0-9]+(?:\.[0-9]+)?)[eE]([-+]?[0-9]+)(?![0-9a-zA-Z.])")
ARTICLE = re.compile(r"(?i)^(?:the|an?)\s+(?=[0-9])")
WRAPPERS = [
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"```[a-zA-Z]*\n(.*?)\n?```",
        r"\$\$([^$]*)\$\$",
        r"\$([^$]*)\$",
        r"\\\((.*)\\\)",
        r"\\\[(.*)\\\]",
        r"\\(?:boxed|fbox|text|textbf|mathbf|mathrm|textrm)\s?\{([^{}]*)\}",
        r"\\boxed\s?\{(.*)\}",
        r"\*\*([^*]*)\*\*",
        r"\*([^*]+)\*",
        r"__([^_]+)__",
        r"_([^_]+)_",
        r"`([^`]*)`",
        r"[\"“'‘]([^\"”'’]*)[\"”'’]",
    )
]
# Not "\\$", which is a dollar sign.
INLINE = re.compile(r"(?<!\\)\$([^$]+?)(?<!\\)\$|\\\((.+?)\\\)", re.DOTALL)

# ISO 80000-2 sets the constants e, i and pi upright.
UPRIGHT_CONSTANT = re.compile(
    r"\\(?:mathrm|text|textrm|operatorname|mathit|rm)\s?\{\s*([ei]|\\pi)\s*\}"
)
SET_NAMES = [
    (
        re.compile(
            r"\\varnothing(?![a-zA-Z])|\\\{\s*\\\}|\\text\s?\{\s*(?:the )?empty set\s*\}"
        ),
        r"\\emptyset ",
    ),
    (re.compile(r"(?i)^(?:the )?empty set$"), r"\\emptyset "),
    (re.compile(r"(?i)^(?:all|the|all the)? ?reals?(?: numbers)?$"), r"\\mathbb{R}"),
    (re.compile(r"(?i)^(?:(?:positive|plus|\+) )?infinity$"), r"\\infty "),
    (re.compile(r"(?i)^(?:negative|minus|-) ?infinity$"), r"-\\infty "),
]  # fmt: skip
# Parentheses are matched by ``braced_calls``, which a regular expression cannot.
ROOT_COMMAND = re.compile(r"\\sqrt\s*(\[[^\[\]]*\])?\s*\(")
ROOT_CALL = re.compile(r"(?<![\\a-zA-Z])(sqrt|cbrt)\s*\(")
ROOT_SIGN = re.compile(r"([√∛])\s*(?:\{([^{}]*)\}|([0-9]+|[a-zA-Z]))")
ROOT_SIGN_CALL = re.compile(r"([√∛])\s*\(")
ROOT_IN_WORDS = re.compile(r"(?i)(?:the )?(square|cube) root of (?:\{([^{}]*)\}|([0-9]+|[a-z])\b)")
ROOT_BARE = re.compile(
    r"(?<![\\a-zA-Z])(sqrt|cbrt)\s*(?:\{([^{}]*)\}|([0-9]+|[a-zA-Z](?![a-zA-Z])))"
)
FUNCTIONS = (
    r"(?:arc(?:sin|cos|tan)|(?:sin|cos|tan)h?|cot|sec|csc|log|ln|exp|gcd|lcm|max|min)(?![a-zA-Z])"
)
NAMES = re.compile(rf"(?<![\\a-zA-Z])([Pp]i(?![a-zA-Z])|{FUNCTIONS})")
OPERATOR_NAME = re.compile(rf"\\(?:operatorname|mathrm)\s?\{{\s*({FUNCTIONS})\s*\}}")
# TeX raises one token only, but "x^-1" means x^{-1}.
NEGATIVE_POWER = re.compile(r"\^\s*(-\s*(?:[0-9]+(?:\.[0-9]+)?|[a-zA-Z]|\\[a-zA-Z]+))")
# "1.2 x 10^-3"
TIMES_TEN = re.compile(r"(?<=[0-9])\s*[xX]\s*(?=10\s*(?:\^|\*\*))")
# Between operands only: "**" is a power, and emphasis is gone by then.
TIMES = re.compile(r"(?<=[0-9a-zA-Z)\]}!])\s*\*\s*(?=[0-9a-zA-Z(\\\-{])")


def clean_answer(text: str) -> str:
    """``text`` without wrappers and sentence marks; the one ``$…$`` of a sentence stands for it."""
    # Format characters (zero-width space, direction marks) are not seen.
    text = "".join(sign for sign in text if unicodedata.category(sign) != "Cf")
    text = NARROW_THOUSANDS.sub(",", raised_and_lowered(without_marks(text)))
    text = SPACING.sub(" ", text)
    for _ in range(MAX_BRACES):
        text = DOUBLED_BRACES.sub(r"\1", text)
    text = full_fractions(text)
    for _ in range(4):  # wrappers stand in each other, \boxed{\text{(5)}}
        inner = unwrapped(text)
        if inner is None:
            break
        text = without_marks(inner)
    if "$" in text or r"\(" in text:
        inline = list(INLINE.finditer(text))
        if len(inline) == 1:
            text = without_marks(inline[0].group(1) or inline[0].group(2))
    text = TIMES_TEN.sub(r"\\times ", text.translate(SIGN_TABLE).strip())
    text = SHELL.sub(lambda match: SHELLS[match[1]], text)
    for pattern, name in SET_NAMES:
        text = pattern.sub(name, text)
    return ARTICLE.sub("", text.strip())


def full_fractions(text: str) -> str:
    r"""``text`` with ``\dfrac12`` and its like as ``\frac{1}{2}``."""

    def braced(match: re.Match[str]) -> str:
        return fraction(match[1] or match[2], match[3] or match[4])

    return SHORT_FRACTION.sub(braced, FRACTIONS.sub(r"\\frac", text))


def raised_and_lowered(text: str) -> str:
    """``text`` with runs of superscripts as ``^{…}``, of subscripts as ``_{…}``, and ½ as a
    fraction.
    """
    text = RAISED_FRACTION.sub(lambda match: fraction(plain(match[1]), plain(match[2])), text)
    text = VULGAR_FRACTION.sub(lambda match: fraction(*plain(match[0]).split("⁄")), text)
    text = POWERS.sub(lambda match: f"^{{{plain(match[0])}}}", text)
    return INDICES.sub(lambda match: f"_{{{plain(match[0])}}}", text)


def plain(signs: str) -> str:
    return unicodedata.normalize("NFKC", signs).replace("−", "-")


def fraction(above: str, below: str) -> str:
    return rf"\frac{{{above}}}{{{below}}}"


def unwrapped(text: str) -> str | None:
    """What a wrapper around the whole of ``text`` holds, None where there is no wrapper."""
    for wrapper in WRAPPERS:
        match = wrapper.fullmatch(text)
        if match:
            return match.group(1)
    return None


def without_marks(text: str) -> str:
    """``text`` without the marks that end a sentence, but with the dots of an endless decimal."""
    text = text.strip()
    while text.endswith(SPACES_AT_END):
        text = text[:-2].rstrip()
    if not re.search(r"[0-9]\.{3}$|…$", text):
        text = text.rstrip(SENTENCE_MARKS)
    return text.strip().removeprefix("=").strip()


def to_latex(text: str) -> str:
    """Calculator spellings and names in words as LaTeX."""
    condition = SET_OF.fullmatch(text)
    if condition and RELATION.search(condition[1]):
        text = condition[1]
    text = UNION.sub(r"\\cup ", text)
    text = OPERATOR_NAME.sub(r"\\\1 ", UPRIGHT_CONSTANT.sub(r" \1 ", text))
    text = ROOT_IN_WORDS.sub(in_words, text)
    text = ROOT_SIGN.sub(lambda match: root(match[1], match[2] or match[3] or ""), text)
    text = ROOT_BARE.sub(lambda match: root(match[1], match[2] or match[3] or ""), text)
    text = braced_calls(text, ROOT_SIGN_CALL)
    text = braced_calls(braced_calls(text, ROOT_COMMAND), ROOT_CALL)
    text = SCIENTIFIC.sub(r"\1 \\cdot 10^{\2}", text)
    text = NEGATIVE_POWER.sub(r"^{\1}", text.replace("**", "^"))
    text = NAMES.sub(lambda match: rf"\{match[1].lower()} ", text)
    return TIMES.sub(r" \\cdot ", text)


def root(sign: str, content: str) -> str:
    degree = ""
    if sign in ("∛", "cbrt", "cube"):
        degree = "[3]"
    return rf"\sqrt{degree}{{{content}}}"


def in_words(match: re.Match[str]) -> str:
    return root(match[1].lower(), match[2] or match[3])


def braced_calls(text: str, call: re.Pattern[str]) -> str:
    r"""``sqrt(…)`` and ``\sqrt[3](…)`` with braces for the parentheses, nested ones too."""
    # From behind each new head on, so that calls within the brackets are found, too.
    start = 0
    while match := call.search(text, start):
        end = closing(text, match.end())
        if end is None:
            return text
        name = match.group(1) or ""
        if name.startswith("["):
            head = rf"\sqrt{name}{{"
        else:
            head = root(name, "")[:-1]
        text = text[: match.start()] + head + text[match.end() : end] + "}" + text[end + 1 :]
        start = match.start() + len(head)
    return text


def closing(text: str, start: int) -> int | None:
    """Where the parenthesis opened before ``start`` is closed."""
    depth = 1
    for position in range(start, len(text)):
        depth += (text[position] == "(") - (text[position] == ")")
        if not depth:
            return position
    return None
