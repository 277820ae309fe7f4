"""JSON objects in a model's text, repaired where they are broken.

    strict    each object that JSON's own grammar reads and that lies inside no other
    repaired  one object from a text, or a fenced block, that starts like an object and that JSON
              does not read: as a Python literal, else by json_repair (single quotes, raw line
              breaks, commas and brackets too many or too few, unknown escapes, unquoted keys),
              unless that drops a part of the text; // and /* */ are comments

An object whose last string is not closed is cut off and not repaired: half a program is not run.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import json_repair

from agentflow_verl.flow.parse.clean import Fence, fences, levelled

MAX_READS = 100  # of a text in the search for objects, so that hostile text costs linear time
MAX_REPAIRED = 20_000  # characters; repairing costs more than linear time on hostile text
MAX_REPAIRED_BRACES = 500
MAX_MARKUP = 200  # characters of closing tags and fences behind an object
_DECODER = json.JSONDecoder(strict=False)  # raw line breaks in strings are read too
_STRICT_START = re.compile(r'\{\s*["}]')  # how a JSON object starts, and LaTeX seldom
_LOOSE_START = re.compile(
    r"\{\s*(?:(?://[^\n]*\n|/\*[^*]*\*/)\s*)?(?:[\"']|(?P<key>[A-Za-z_]\w*)\s*:)"
)
_CONTROL = re.compile(r"(?<!\\)(?:\\\\)*\\(?:u00[01]|[bf])")
_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)", re.DOTALL)
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_HASH_COMMENT = re.compile(r"(?m)#[^\"'\n]*$")
_ENCODED = re.compile(r'"\s*\{|\{\s*\\"')
_NEXT_SIGN = re.compile(r"\s*(.?)", re.DOTALL)
_MARKUP_BEHIND = re.compile(r"(?:\s|```|</?[\w|]{1,20}>|\[/?[A-Z_]{1,20}\])*\Z")


@dataclass(frozen=True)
class Found:
    """A JSON object in a text, and where it starts and ends."""

    value: dict[str, Any]
    start: int
    end: int


def objects_in(text: str) -> list[Found]:
    """The strict objects of ``text``, in order; where there is none, the repaired one if any."""
    text = decoded(text)
    strict = strict_objects(text)
    if strict:
        return strict
    mended = repaired_object(text, frozenset())
    return [] if mended is None else [mended]


def decoded(text: str) -> str:
    """``text`` without a JSON string around an object: ``"{\\"key\\": 1}"``, its outer quotes or
    not.
    """
    written = text.strip()
    if not _ENCODED.match(written):
        return text
    quoted = written if written.startswith('"') else f'"{written}"'
    try:
        value = json.loads(quoted, strict=False)
    except ValueError:
        return text
    return value if isinstance(value, str) else text


def strict_objects(text: str) -> list[Found]:
    """Gives up on text that would have to be read more than ``MAX_READS`` times."""
    found: list[Found] = []
    start, reread = _STRICT_START.search(text), 0
    while start and reread <= MAX_READS * len(text):
        try:
            value, end = _DECODER.raw_decode(text, start.start())
            found.append(Found(value, start.start(), end))
        except (ValueError, RecursionError) as wrong:
            # json counts the lines up to the error
            reread += getattr(wrong, "pos", len(text))
            end = start.start() + 1
        start = _STRICT_START.search(text, end)
    return found


def repaired_object(text: str, keys: Container[str]) -> Found | None:
    """The object that ``text`` starts or holds, repaired. An unquoted first key must be in
    ``keys``.
    """
    for block in reversed(fences(text)):
        if block.body.lstrip().startswith("{"):
            inside = _repaired(block.body, keys)
            if inside is not None:
                return Found(inside, block.start, block.end)
    value = _repaired(text, keys)
    return None if value is None else Found(value, 0, len(text))


def _repaired(text: str, keys: Container[str]) -> dict[str, Any] | None:
    flat = levelled(text)
    start = _LOOSE_START.search(flat)
    while start and start["key"] and start["key"] not in keys:
        start = _LOOSE_START.search(flat, start.start() + 1)
    if start is None:
        return None
    broken = text[start.start() :]
    if len(broken) > MAX_REPAIRED or broken.count("{") + broken.count("[") > MAX_REPAIRED_BRACES:
        return None
    broken = _object_part(broken)
    return _literal(broken) or _by_library(broken)


def _object_part(text: str) -> str:
    """``text`` up to its last closing bracket, where prose follows; all of it where none closes.

    What stands outside strings is levelled: a full-width colon separates too.
    """
    body = text[:-MAX_MARKUP] + _MARKUP_BEHIND.sub("", text[-MAX_MARKUP:])
    end = body.rfind("}")
    if end >= 0 and not ends_inside_a_string(body[: end + 1]):
        body = body[: end + 1]
    return _outside_strings_levelled(body)[0]


def _literal(text: str) -> dict[str, Any] | None:
    """A Python literal: True and None, triple quotes. Nothing is evaluated."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an escape that Python does not know
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    literal = _json_like(value)
    # "\\a" and "\\1" are signs of control in a Python literal, and LaTeX or a group in JSON.
    if literal is None or _CONTROL.search(json.dumps(literal)):
        return None
    return literal


def _by_library(text: str) -> dict[str, Any] | None:
    if ends_inside_a_string(text):
        return None
    try:
        mended = _json_like(json_repair.loads(text))
    except (ValueError, RecursionError):
        return None
    if mended is None:
        return None
    # What the library cannot place it drops; half a program is not run, half a value not credited.
    kept = _letters(json.dumps(mended, ensure_ascii=False))
    return mended if kept >= _letters(_HASH_COMMENT.sub("", text)) else None


def _letters(text: str) -> int:
    """How many letters and digits ``text`` has, those of escapes left out."""
    return sum(map(str.isalnum, _ESCAPE.sub("", text)))


def _json_like(value: Any) -> dict[str, Any] | None:
    """``value`` where it is an object that JSON can hold, else None."""
    try:
        copy = json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        return None
    return copy if isinstance(copy, dict) and copy else None


def ends_inside_a_string(text: str) -> bool:
    """Whether ``text`` ends before the string that it is in.

    A quote opens a string behind one of ``{[,:`` and closes it before one of ``,:}]`` or the end,
    so that quotes which should have been escaped do not count.
    """
    return _outside_strings_levelled(text)[1]


def _outside_strings_levelled(text: str) -> tuple[str, bool]:
    """``text`` with its strings as they are, the rest levelled and comments blank; whether it ends
    in a string.
    """
    flat = levelled(text)
    signs = list(flat)
    inside, previous, position = "", "", 0
    while position < len(flat):
        sign = flat[position]
        if inside and sign == "\\":
            signs[position : position + 2] = text[position : position + 2]
            position += 1
        elif inside and sign == inside and _closes(flat, position + 1):
            inside, previous = "", sign
        elif inside:
            signs[position] = text[position]
        elif sign in "\"'" and previous in ("", *"{[,:"):
            inside = sign
        elif sign == "/" and previous != ":" and (comment := _COMMENT.match(flat, position)):
            signs[position : comment.end()] = " " * (comment.end() - position)
            position = comment.end() - 1
        elif not sign.isspace():
            previous = sign
        position += 1
    return "".join(signs), bool(inside)


def _closes(flat: str, position: int) -> bool:
    following = _NEXT_SIGN.match(flat, position)
    assert following is not None
    return following[1] in ("", *",:}]") or bool(_COMMENT.match(flat, following.start(1)))


def is_object_block(block: Fence) -> bool:
    """Whether a fenced block holds an object and not a program, whatever its language says."""
    if block.language.startswith("json"):
        return True
    if not block.body.lstrip().startswith("{"):
        return False
    if not block.language:
        return True
    try:
        return isinstance(json.loads(block.body, strict=False), dict)
    except (ValueError, RecursionError):
        return False
