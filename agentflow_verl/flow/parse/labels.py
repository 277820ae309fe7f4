"""Labelled values: "Label: value", in the many ways in which models write the label.

    line   = blanks and marks (# > * - + | < emphasis, a pictograph), an optional number ("1.",
             "2)", "(c)", "IV.", "Step 3:"), the label in any letter case, a hint in brackets or a
             number, closing marks, a separator, the value
    separator = ":"  "="  "->"  "=>"  "|"  ">" of a tag, a dash between blanks, a blank behind
             **label** or [label], or the end of the line: then the value starts on the next line
    value  = all up to the next label that is taken

Where a label occurs in several styles (marks and separator), the style that most labels have is the
text's own; one in another style is part of a value, unless its label occurs in no other way.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from agentflow_verl.flow.parse.clean import levelled

_BEFORE = (
    r"^(?P<marks>[\u2190-\u2bff\U0001f000-\U0001faff \t>#*_\-+|`~<\[\"']{0,16})"
    r"(?P<number>(?:"
    r"\(?(?:\d{1,2}|[a-d]|[ivx]{1,4})[ \t]?[.):][ \t]{0,4}"
    r"|(?:step|part)[ \t]\d{1,2}[ \t]?[:.\-][ \t]{0,4}"
    r")?)"
    r"(?P<inner>[*_`\"'\[]{0,4})"
)
# What a prompt's form or a list adds to a label: "Sub-goal (one step):", "Sub-goal 1:".
_HINT = r"(?:[ \t]?(?:[(\[][^()\[\]\n]{1,60}[)\]]|#?\d{1,2}(?=[ \t]?[:*])))?"
_AFTER = (
    r"(?P<closing>[*_`\"'\]]{0,4})" + _HINT + r"[*_`]{0,3}[ \t]{0,4}"
    r"(?:(?P<separator>:|=>|=|->|\||>|-{1,2}(?=[ \t]))|(?=[ \t]{0,8}$)|(?<=\*\*[ \t])|(?<=\][ \t]))"
)
_EMPHASIS = "*_`\"'"
_RULE_BEHIND = re.compile(r"\n[ \t]*(?:-{3,20}|\*{3,20}|_{3,20})\s*\Z")  # a line between parts
_CLOSING = re.compile(r"[*_`\"']{0,4}")


class Label(NamedTuple):
    """A label in a text: its key, where it and its value start, and how it is written."""

    key: str
    start: int
    value_start: int
    style: str
    unclosed: str  # emphasis that opened before the label and did not close behind it


class Labelled(NamedTuple):
    """A label's key, its value without outer blanks, and where the label starts."""

    key: str
    value: str
    start: int


class LabelGrammar:
    """Finds labels. ``names`` maps a key to the regular expression of its label, in lower case."""

    def __init__(self, names: Mapping[str, str]):
        self.names = {key: re.compile(name) for key, name in names.items()}
        words = "|".join(f"(?P<{key}>{name})" for key, name in names.items())
        self._line = re.compile(
            f"{_BEFORE}(?P<label>{words})(?![a-z0-9]){_AFTER}", re.IGNORECASE | re.MULTILINE
        )
        self._anywhere = re.compile(
            rf"(?<![\w\-])[*_]{{0,2}}(?P<label>{words})[*_]{{0,2}}[ \t]{{0,4}}:[*_]{{0,2}}",
            re.IGNORECASE,
        )

    def at_line_starts(self, text: str) -> list[Labelled]:
        """The labelled values of ``text``, by the rule of the module's docstring."""
        flat = levelled(text)
        labels, start = [], 0
        # Line by line: a search would try the expression at every character.
        while start >= 0:
            if match := self._line.match(flat, start):
                labels.append(self._label(match))
            start = _next_line(flat, start)
        return _values(text, _taken(labels))

    def anywhere(self, text: str) -> list[Labelled]:
        """As ``at_line_starts``, with labels inside lines too: only "Label:" counts."""
        labels = []
        for match in self._anywhere.finditer(levelled(text)):
            labels.append(Label(self._key(match), match.start(), match.end(), "", ""))
        return _values(text, labels)

    def key_of(self, name: str) -> str | None:
        """The key whose label ``name`` is, as in a JSON object's key."""
        word = levelled(name).strip().lower()
        for key, pattern in self.names.items():
            if pattern.fullmatch(word):
                return key
        return None

    def _key(self, match: re.Match[str]) -> str:
        for key in self.names:
            if match[key] is not None:
                return key
        raise AssertionError("one of the names has matched")

    def _label(self, match: re.Match[str]) -> Label:
        marks, number, inner, closed, separator = match.group(
            "marks", "number", "inner", "closing", "separator"
        )
        opened = [sign for sign in marks + inner if sign in _EMPHASIS]
        value_start = match.end()
        if opened:  # "**Label:** value": the marks close behind the separator
            tail = _CLOSING.match(match.string, value_start)
            assert tail is not None
            closed += tail[0]
            value_start = tail.end()
        bullets = marks.strip()
        if bullets in ("*", "-"):  # a bullet, not emphasis
            opened = []
        unclosed = "" if closed else "".join(opened)
        style = f"{bullets}{bool(number)}{inner}{separator or 'end of line'}"
        return Label(self._key(match), match.start(), value_start, style, unclosed)


def _next_line(text: str, position: int) -> int:
    """Where the line after the one at ``position`` starts; -1 where there is none."""
    end = text.find("\n", position)
    return end + 1 if end >= 0 else -1


def _taken(labels: list[Label]) -> list[Label]:
    """The labels in the text's own style, and those of a key that has none in it."""
    if len({label.style for label in labels}) < 2:
        return labels
    styles = Counter(label.style for label in labels)
    most = max(styles.values())
    own = next(label.style for label in reversed(labels) if styles[label.style] == most)
    has_own = {label.key for label in labels if label.style == own}
    return [label for label in labels if label.style == own or label.key not in has_own]


def _values(text: str, labels: list[Label]) -> list[Labelled]:
    ends = [*(label.start for label in labels[1:]), len(text)]
    values = []
    for label, end in zip(labels, ends, strict=False):
        value = _RULE_BEHIND.sub("", text[label.value_start : end]).strip()
        if label.unclosed:
            value = value.rstrip(label.unclosed + " \t")
        if label.style.endswith(">"):  # <label>value</label>
            value = re.sub(r"</[\w -]{1,20}>\s*$", "", value.removeprefix(":")).strip()
        if label.style.endswith("|"):
            value = value.rstrip("| \t")
        if '"' in label.style:  # a line of a JSON object
            value = value.rstrip(", \t").strip('"')
        values.append(Labelled(label.key, value, label.start))
    return values
