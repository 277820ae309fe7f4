r"""Text of a model or a data set as LaTeX that the algebra reads.

``clean_answer`` takes wrappers (``$…$``, ``\boxed{…}``, ``\text{…}``, fences, emphasis), invisible
characters, full-width signs and sentence marks away; ``to_latex`` turns calculator spellings
(``sqrt(2)``, ``x**2``, ``2*pi``) into LaTeX.
"""

from __future__ import annotations

import re
import unicodedata

SIGNS = {
    "−": "-", "–": "-", "—": "-", "×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ", "÷": r"\div ",
    "π": r"\pi ",
    "∞": r"\infty ", "°": r"^{\circ}", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "±": r"\pm ",
    "∪": r"\cup ",
    "∩": r"\cap ", "∈": r"\in ", "²": "^{2}", "³": "^{3}", "⁻": "^-", "½": r"\frac{1}{2}",
    "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "θ": r"\theta ", "％": "%",
    "，": ",",
    "（": "(", "）": ")", "　": " ", "\u00a0": " ", "＝": "=", "＋": "+", "－": "-", "／": "/",
    "．": ".",
    "∅": r"\emptyset ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℚ": r"\mathbb{Q}",
    "ℕ": r"\mathbb{N}",
    "¬": r"\neg ", "∨": r"\lor ", "∧": r"\land ", "∣": "|", "⁄": "/", "…": r"\ldots ",
    "∖": r"\setminus ", "∗": "*", "∙": r"\cdot ", "•": r"\cdot ",
}  # fmt: skip
# Full-width letters and digits lie this far above their ASCII forms.
FULL_WIDTH = {code: chr(code - 0xFEE0) for code in range(0xFF10, 0xFF5B) if chr(code).isalnum()}
SIGN_TABLE = {**str.maketrans(SIGNS), **FULL_WIDTH}
SENTENCE_MARKS = ".,;:。．、；：！"

SPACING = re.compile(
    r"\\(?:displaystyle|left|right|limits|big|Big|bigg|Bigg|quad|qquad)(?![a-zA-Z])|\\[!;:]|~"
)
# TeX sets "10,\!080" with a narrower blank behind the comma of the thousands.
NARROW_THOUSANDS = re.compile(r"(?<=[0-9])(?:,|\{,\})\s*\\[!;:,]\s*(?=[0-9]{3}(?![0-9]))")
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
NAMES = re.compile(r"(?<![\\a-zA-Z])([Pp]i|sin|cos|tan|log|ln|exp|gcd|lcm|max|min)(?![a-zA-Z])")
# Between operands only: "**" is a power, and emphasis is gone by then.
TIMES = re.compile(r"(?<=[0-9a-zA-Z)\]}!])\s*\*\s*(?=[0-9a-zA-Z(\\\-{])")


def clean_answer(text: str) -> str:
    """``text`` without wrappers and sentence marks; the one ``$…$`` of a sentence stands for it."""
    # Format characters (zero-width space, direction marks) are not seen.
    text = "".join(sign for sign in text if unicodedata.category(sign) != "Cf")
    text = NARROW_THOUSANDS.sub(",", without_marks(text))
    text = full_fractions(SPACING.sub(" ", text))
    for _ in range(4):  # wrappers stand in each other, \boxed{\text{(5)}}
        inner = unwrapped(text)
        if inner is None:
            break
        text = without_marks(inner)
    if "$" in text or r"\(" in text:
        inline = list(INLINE.finditer(text))
        if len(inline) == 1:
            text = without_marks(inline[0].group(1) or inline[0].group(2))
    text = text.translate(SIGN_TABLE).strip()
    for pattern, name in SET_NAMES:
        text = pattern.sub(name, text)
    return ARTICLE.sub("", text.strip())


def full_fractions(text: str) -> str:
    r"""``text`` with ``\dfrac12`` and its like as ``\frac{1}{2}``."""

    def braced(match: re.Match[str]) -> str:
        return rf"\frac{{{match[1] or match[2]}}}{{{match[3] or match[4]}}}"

    return SHORT_FRACTION.sub(braced, FRACTIONS.sub(r"\\frac", text))


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
    if not re.search(r"[0-9]\.{3}$|…$", text):
        text = text.rstrip(SENTENCE_MARKS)
    return text.strip().removeprefix("=").strip()


def to_latex(text: str) -> str:
    """Calculator spellings and names in words as LaTeX."""
    text = UPRIGHT_CONSTANT.sub(r" \1 ", text)
    text = ROOT_IN_WORDS.sub(in_words, text)
    text = ROOT_SIGN.sub(lambda match: root(match[1], match[2] or match[3] or ""), text)
    text = braced_calls(text, ROOT_SIGN_CALL)
    text = braced_calls(braced_calls(text, ROOT_COMMAND), ROOT_CALL)
    text = SCIENTIFIC.sub(r"\1 \\cdot 10^{\2}", text)
    text = NAMES.sub(lambda match: rf"\{match[1].lower()} ", text.replace("**", "^"))
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
