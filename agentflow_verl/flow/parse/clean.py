"""What is taken off or levelled before a model's text is read.

Reasoning
    A block ``<think>…</think>`` (also ``thinking``, ``thought``, ``reasoning``, ``reflection``,
    ``[THINK]``, ``◁think▷``) whose opening stands at the start of a line is left out. A closing tag
    alone means that the prompt opened the block: all before it is left out. An opening tag alone
    means that the reply was cut while the model reasoned: all after it is left out. What remains
    may be empty.
The end of a turn
    What follows a chat template's end ("<|im_end|>", "</s>") is another turn and is left out.
Levelling
    ``levelled`` maps full-width letters and signs, the many hyphens, quotes and blanks to ASCII,
    character for character, so that a position in it is a position in the text.
Pairs of tags
    ``tag_pairs`` gives what stands between ``<name>`` and the next ``</name>``.
Fences
    A fenced block opens with three or more backticks or tildes at the start of a line, of a list's
    item, or behind "Code:", and closes with the same fence at the start of a line, with no word on
    it and outside of triple quotes, or at the end of the text, which may hold the fence behind its
    last words. A block may also be one line. The marks of a quotation and the depth of a list
    around it are taken off its lines.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

TAIL = 20_000  # characters, from the end, that are read of a plan or a verdict

_NAME = r"(?:seed:|antml:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad)"
_TAG = re.compile(
    rf"<\s{{0,3}}(?P<angle>/?){_NAME}\s{{0,3}}>"
    rf"|\[(?P<square>/?){_NAME}\]"
    rf"|◁(?P<triangle>/?){_NAME}▷",
    re.IGNORECASE,
)
_MAY_BE_A_TAG = re.compile(r"[<\[◁]")
# Not in quotation marks: a program may speak of one.
_END_OF_TURN = re.compile(
    r"(?:<\|(?:im_end|eot_id|eom_id|endoftext|end|end_of_text)\|>|<end_of_turn>"
    r"|<\uff5cend\u2581of\u2581sentence\uff5c>)(?![\"'`])|</s>(?=[ \t]*(?:\n|<|\Z))"
)
_HARMONY_FINAL = re.compile(r"<\|channel\|>\s*final\s*<\|message\|>")

_HYPHENS = "\u00ad\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63"
_DOUBLE_QUOTES = "\u201c\u201d\u201e\u201f\u00ab\u00bb\u300c\u300d\u300e\u300f"
_SINGLE_QUOTES = "\u2018\u2019\u201a\u201b\u00b4\u2032"
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u200e\u200f"
_SIGNS = {
    **dict.fromkeys(_HYPHENS, "-"),
    **dict.fromkeys(_DOUBLE_QUOTES, '"'),
    **dict.fromkeys(_SINGLE_QUOTES, "'"),
    **dict.fromkeys(_INVISIBLE, " "),
    "\ufe0f": " ",
    "\u20e3": ".",  # the last part of the sign "1" in a key
    "\u3002": ".",
    "\u3001": ",",
    "\u2192": ">",
    "\u2022": "*",
    "\u25cf": "*",
    "\u2023": "*",
    "\u3010": "[",
    "\u3011": "]",
    "\u2236": ":",
    "\ua789": ":",
    "\ufe13": ":",
}
_FENCE = re.compile(
    r"^(?P<indent>[ \t>]{0,12})(?P<item>(?:[-*+]|\d{1,2}[.)])[ \t]{1,4})?"
    r"(?P<said>[A-Za-z][A-Za-z ]{0,19}:[ \t]{1,4})?"
    r"(?:(?P<fence>`{3,20}|~{3,20})(?P<info>[^\n`]{0,40})"
    r"|```(?:(?P<language>[a-z0-9+]{1,12})[ \t]+)?(?P<line>[^`\n]{1,2000})```[ \t]*)$",
    re.MULTILINE,
)

_CLOSED_BEHIND = re.compile(r"(?<=[^\s`~])(?:`{3,20}|~{3,20})[^\n`~]{0,200}\s{0,20}\Z")


@dataclass(frozen=True)
class Fence:
    """A fenced block: the word behind its opening, what it holds, and where it stands."""

    language: str
    body: str
    start: int
    end: int


def without_reasoning(text: str) -> str:
    """``text`` without the reasoning that the model wrote before it answered, and without what
    follows the end of its turn.
    """
    if not _MAY_BE_A_TAG.search(text):
        return text
    finals = list(_HARMONY_FINAL.finditer(text))
    if finals:
        text = text[finals[-1].end() :]
    text = this_turn(text)
    kept: list[str] = []
    depth, position = 0, 0
    for tag in _TAG.finditer(text):
        closing = any(tag.groups())
        if depth == 0 and not closing:
            if not _starts_a_line(text, tag.start()):
                continue  # mentioned inside a sentence or a string
            kept.append(text[position : tag.start()])
        elif depth == 0 and not _ends_a_line(text, tag):
            continue
        elif depth == 0:
            kept.clear()  # the prompt had opened the block
        depth = max(0, depth - 1) if closing else depth + 1
        position = tag.end()
    if depth == 0:
        kept.append(text[position:])
    return "".join(kept)


def this_turn(text: str) -> str:
    """``text`` up to the first end of a turn that has anything before it."""
    for end in _END_OF_TURN.finditer(text):
        if text[: end.start()].strip():
            return text[: end.start()]
    return text


def _starts_a_line(text: str, position: int) -> bool:
    return not text[text.rfind("\n", 0, position) + 1 : position].strip()


def _ends_a_line(text: str, tag: re.Match[str]) -> bool:
    if _starts_a_line(text, tag.start()):
        return True
    end = text.find("\n", tag.end())
    return not text[tag.end() : end if end >= 0 else len(text)].strip()


def levelled(text: str) -> str:
    """``text`` with signs and full-width letters as ASCII; of the same length."""
    if text.isascii():
        return text
    return "".join(map(_level, text))


@lru_cache(maxsize=4096)
def _level(character: str) -> str:
    if character in _SIGNS:
        return _SIGNS[character]
    if character.isspace():
        return character if character in "\n\r" else " "
    normal = unicodedata.normalize("NFKC", character)
    return normal if len(normal) == 1 and normal.isascii() else character


def fences(text: str) -> list[Fence]:
    """The fenced blocks, in order. One that is never closed runs to the end of the text."""
    found: list[Fence] = []
    opening: re.Match[str] | None = None
    for line in _FENCE.finditer(text):
        if opening is None and line["line"]:
            found.append(Fence(line["language"] or "", line["line"], line.start(), line.end()))
        elif opening is None:
            opening = line
        elif (
            line["fence"]
            and not line["said"]
            and line["fence"].startswith(opening["fence"])
            and not line["info"][:1].isalnum()
            and text.count('"""', opening.end(), line.start()) % 2 == 0
        ):
            found.append(_fence(text, opening, line.start(), line.end()))
            opening = None
    if opening is not None:
        found.append(_fence(text, opening, len(text), len(text)))
    return found


def _fence(text: str, opening: re.Match[str], body_end: int, end: int) -> Fence:
    words = opening["info"].split()
    language = words[0].lower() if words else ""
    body = text[opening.end() + 1 : body_end]
    if body_end == len(text):
        body = _CLOSED_BEHIND.sub("", body)
    if ">" in opening["indent"]:
        body = re.sub(r"(?m)^[ \t]{0,3}>[ \t]?", "", body)
    elif opening["indent"] or opening["item"]:  # as deep as the list that it stands in
        body = textwrap.dedent(body)
    return Fence(language, body, opening.start(), end)


def tag_pairs(
    text: str, tag: re.Pattern[str], key_of: Callable[[str], str | None]
) -> Iterator[tuple[str, str]]:
    """Each complete pair of tags with a key, and what it holds, in the order of their ends.

    Args:
        tag: groups 1 and 2 are the slash of a closing tag, or "", and the name.
        key_of: the key of a name; None for tags that are passed over.
    """
    opened: dict[str, int] = {}
    for match in tag.finditer(text):
        key = key_of(match[2])
        if key is None:
            continue
        if not match[1]:
            opened[key] = match.end()
        elif key in opened:
            yield key, text[opened.pop(key) : match.start()]
