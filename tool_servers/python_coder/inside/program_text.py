"""Make a program of a text that holds one, as models write it.

A text that compiles is taken as it is. Only where it does not, these are tried in turn, and the
first result that compiles is run: invisible and typographic characters outside of strings replaced,
the fenced blocks of a text (Markdown), the text without stray fences or prompts (``>>>``), line
breaks and quotes that were escaped once too often, the end of a JSON object cut off, HTML entities
resolved. Each is tried as it is
and without the indentation that all of its lines share.
"""

from __future__ import annotations

import ast
import html
import re
import textwrap
import unicodedata
from collections.abc import Iterator
from types import CodeType

_STRING_OR_COMMENT = re.compile(
    r'''"""(?:\\.|[^\\])*?"""|\'\'\'(?:\\.|[^\\])*?\'\'\''''
    r"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\#[^\n]*""",
    re.DOTALL,
)
_FENCE = re.compile(r"^[ \t]*(?:```+|~~~+)[ \t]*([\w+#.-]*)[^\n`]*$", re.MULTILINE)
_CODE_TAG = re.compile(r"<(code|python|pre|tool_code)>\s*(.*?)\s*</\1>", re.DOTALL | re.IGNORECASE)
_LANGUAGE_LINE = re.compile(r"\A\s*(?:python3?|py)[ \t]*\n", re.IGNORECASE)
# Of the JSON object that the program was an argument in: ``print(6 * 7)}`` or ``print(6 * 7)"}``.
_ARGUMENTS_END = re.compile(r"(?:[\"']\s*\}+|\}+|[\"'])\s*\Z")
_PROMPT = re.compile(r"^[ \t]*(?:>>>|\.\.\.)(?: |$)", re.MULTILINE)
_PROGRAM_LANGUAGES = frozenset({"", "python", "python3", "py", "py3", "ipython", "tool_code"})
_TYPOGRAPHIC = str.maketrans(
    {
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\uff02", '"'),
        **dict.fromkeys("\u2018\u2019\u201a\u201b\uff07", "'"),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
        "\u00d7": "*",
        "\u2215": "/",
    }
)


def compile_program(program: bytes, name: str) -> tuple[str, CodeType]:
    """The text that is run, and its code. Raises what ``compile`` raises for the program as it is.

    Programs that are not UTF-8 and declare their encoding (PEP 263) compile as they are.
    """
    text = program.decode(errors="replace")
    language = _LANGUAGE_LINE.match(text)
    if language is not None:  # a fence's first line without the fence: it would be a NameError
        text = text[language.end() :]
        program = text.encode()
    try:
        return text, compile(program, name, "exec")
    except (SyntaxError, ValueError) as error:  # ValueError: a null character
        for candidate in _repaired(text):
            try:
                return candidate, compile(candidate, name, "exec")
            except (SyntaxError, ValueError):
                continue
        raise error


def with_value(text: str, name: str) -> tuple[CodeType, CodeType] | None:
    """A program that ends in an expression and prints nothing, as the rest and that expression: a
    model that writes ``280 - 522`` means to see it. None for any other.
    """
    if "print" in text or "write" in text:
        return None
    tree = ast.parse(text)
    last = tree.body.pop() if tree.body else None
    if not isinstance(last, ast.Expr):
        return None
    value = ast.Expression(last.value)
    return compile(tree, name, "exec"), compile(value, name, "eval")


def _repaired(text: str) -> Iterator[str]:
    """Programs that the text may hold, the likeliest first."""
    seen = {text}
    cleaned = clean_characters(text)
    for candidate in (cleaned, *_unwrapped(cleaned)):
        for shape in (candidate, textwrap.dedent(candidate.strip("\n"))):
            if shape.strip() and shape not in seen:
                seen.add(shape)
                yield shape


def _unwrapped(text: str) -> Iterator[str]:
    if fenced := fenced_programs(text):
        yield fenced
    if tag := _CODE_TAG.search(text):
        yield tag.group(2)
    languages = {fence.group(1).lower() for fence in _FENCE.finditer(_masked(text))}
    if languages and languages <= _PROGRAM_LANGUAGES:
        yield _without_fence_lines(text)
    bare = text.strip()
    if len(bare) > 2 and bare[0] == bare[-1] == "`":
        yield bare.strip("`")
    if _PROMPT.search(text):
        yield _PROMPT.sub("", "\n".join(_prompted_lines(text)))
    if "\n" not in bare and "\\n" in bare:
        yield bare.replace("\\n", "\n").replace('\\"', '"').replace("\\t", "\t")
    if ended := _ARGUMENTS_END.search(text):
        yield text[: ended.start()]
    if "&" in text:
        yield html.unescape(text)


def clean_characters(text: str) -> str:
    """Replace characters that no program needs outside of strings and comments: other spaces,
    invisible ones, typographic quotes and signs.
    """

    def clean(match: re.Match[str]) -> str:
        return match.group() if match.group()[0] in "\"'#" else _clean_code(match.group())

    pattern = re.compile(f"(?:{_STRING_OR_COMMENT.pattern})|[^\"'#]+|[\"']", re.DOTALL)
    return pattern.sub(clean, text.replace("\r\n", "\n").replace("\r", "\n"))


def _clean_code(code: str) -> str:
    if code.isascii():
        return code
    cleaned = []
    for character in code.translate(_TYPOGRAPHIC):
        category = unicodedata.category(character)
        if category == "Zs":
            cleaned.append(" ")
        elif category == "Zl" or category == "Zp":
            cleaned.append("\n")
        elif category not in ("Cf", "Cc") or character in "\n\t\f\0":
            cleaned.append(character)
    return "".join(cleaned)


def fenced_programs(text: str) -> str:
    """The fenced blocks of a Markdown text whose language is Python or not named, one below the
    other. The last one may lack its end. An empty text where there is none.
    """
    blocks, start, language = [], None, ""
    for fence in _FENCE.finditer(_masked(text)):
        if start is None:
            start, language = fence.end() + 1, fence.group(1).lower()
        else:
            if language in _PROGRAM_LANGUAGES:
                blocks.append(textwrap.dedent(text[start : fence.start()]))
            start = None
    if start is not None and language in _PROGRAM_LANGUAGES:
        blocks.append(textwrap.dedent(text[start:]))
    return "\n".join(blocks)


def _without_fence_lines(text: str) -> str:
    kept, end = [], 0
    for fence in _FENCE.finditer(_masked(text)):
        kept.append(text[end : fence.start()])
        end = fence.end()
    return "".join([*kept, text[end:]])


def _prompted_lines(text: str) -> list[str]:
    """The lines of an interactive session that were typed in."""
    return [line for line in text.splitlines() if _PROMPT.match(line)]


def _masked(text: str) -> str:
    """The text with strings of several lines blanked, so that fences within them are not found."""

    def blank(match: re.Match[str]) -> str:
        found = match.group()
        return re.sub(r"[^\n]", " ", found) if "\n" in found else found

    return _STRING_OR_COMMENT.sub(blank, text)
