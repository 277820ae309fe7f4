"""A plan: justification, context, sub-goal and tool.

    plan   = the four labels, each at the start of a line (``labels`` says how they may be written),
             in any order
           | without a tool or a sub-goal among those: the same labels inside a line
           | a JSON object with these keys, or the one object that it wraps, or a tool call: then
             its "name" is the tool; what it lacks may stand as labels before it
           | the labels as XML tags
    tool   = the first line of its value, without emphasis, quotes, brackets, arguments and a full
             stop. ``ToolBox.resolve`` says which tool that is.

Of several plans in one text the last that names a tool counts. A label's word inside a value is no
label.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentflow_verl.core.errors import MalformedOutput
from agentflow_verl.flow.parse.clean import TAIL, levelled, tag_pairs, without_reasoning
from agentflow_verl.flow.parse.labels import LabelGrammar, Labelled
from agentflow_verl.flow.parse.objects import objects_in, strict_objects
from agentflow_verl.trajectories.records import Plan

_GRAMMAR = LabelGrammar(
    {
        "justification": r"justifications?",
        "reason": r"(?:rationale|reason(?:ing)?)s?",
        "context": r"contexts?(?:[ _]information)?",
        "sub_goal": (
            r"(?:(?:the|my|next|current)[ _])?sub[- _]{0,3}(?:goals?|tasks?)"
            r"|(?:the[ _])?next[ _]step"
        ),
        "tool": (
            r"(?:(?:the|my|using|selected|chosen|next|recommended|required|suggested)[ _])?tool"
            r"(?:[- _]?(?:name|used?|choice|selection|needed|required|to use|to be used)"
            r"|s(?=[ \t]{0,4}:[ \t]{0,4}[\w*`]))?"
        ),
    }
)
_CALL_NAMES = ("tool", "tools", "name", "tool_name", "function", "action")
MAX_NAME = 500  # characters that are read of a Tool line's value
_MARKS = "*`\"'<>[](){}| \t"
_TAGGED = re.compile(r"<(\w{1,20})>([^<>]*)</\1>")
_LATEX = re.compile(r"\$?\\[a-z]{2,10}\{([^{}]*)\}\$?")
_TAG = re.compile(r"<(/?)([A-Za-z][\w -]{0,30})>")
_DENIED = (
    r"(?:\b(?:not|cannot|never|neither|nor|without|avoid|instead of|rather than|no need)\b"
    r"|n['’]t\b)"
)
_OBJECT_STARTS = re.compile(r"\s*(?:<[\w|]{1,20}>|```\w*)?\s*\{")
_BULLET = re.compile(r"^(?:-[ \t]+|\d{1,2}[.)][ \t]+)")
_ARGUMENTS = re.compile(r"(?<=\w)[*`\"']{0,3}\s{0,2}[({].*$")


@dataclass(frozen=True)
class PlanParts:
    """What a text says of a plan; "" where it says nothing."""

    justification: str = ""
    context: str = ""
    sub_goal: str = ""
    tool: str = ""


def parse_plan(text: str) -> Plan:
    """The plan that ``text`` states. Raises MalformedOutput that names the missing lines."""
    parts = plan_parts(text)
    missing = [
        label for label, value in (("Sub-goal", parts.sub_goal), ("Tool", parts.tool)) if not value
    ]
    if missing:
        lines = " and ".join(f"no {label}: line" for label in missing)
        raise MalformedOutput(f"the plan has {lines}")
    return Plan(
        justification=parts.justification,
        context=parts.context,
        sub_goal=parts.sub_goal,
        tool=parts.tool,
    )


def plan_parts(text: str) -> PlanParts:
    """As ``parse_plan``, with whatever is there."""
    text = without_reasoning(text)[-TAIL:]
    if "\n" not in text.strip():  # line breaks as a string in JSON has them
        text = text.replace("\\n", "\n")
    parts = _from_labels(_GRAMMAR.at_line_starts(text))
    if parts.sub_goal and parts.tool:
        return parts
    inside = _from_labels(_GRAMMAR.anywhere(text))
    if inside.sub_goal and inside.tool:
        return inside
    found = _from_objects(text) or _from_tags(text)
    if found is None:
        return parts
    # A tool call names the tool alone; the labels before it say the rest.
    before = _from_labels(_GRAMMAR.at_line_starts(_OBJECT_STARTS.split(text, 1)[0]))
    return PlanParts(
        justification=found.justification or before.justification,
        context=found.context or before.context,
        sub_goal=found.sub_goal or before.sub_goal,
        tool=found.tool,
    )


def complete_plan(text: str, query: str, tools: Sequence[str]) -> Plan:
    """As ``parse_plan``, with what is missing and clear supplied and named in ``Plan.supplied``.

    A tool is clear where there is only one, or where the justification and the sub-goal speak of
    one alone; a step is where the tool is named: what the justification says, else the question.
    Raises MalformedOutput where neither is there.
    """
    parts = plan_parts(text)
    tool = parts.tool
    if not tool:
        tool = _spoken_of(f"{parts.sub_goal}\n{parts.justification}", tools)
    elif " " in tool:  # a sentence: "The tool to be used is python_coder"
        tool = _spoken_of(tool, tools) or tool
    if not tool and parts.sub_goal and len(tools) == 1:
        tool = tools[0]
    if not tool:
        return parse_plan(text)
    missing = [name for name, value in vars(parts).items() if not value]
    return Plan(
        justification=parts.justification,
        context=parts.context,
        sub_goal=parts.sub_goal or parts.justification or query,
        tool=tool,
        supplied=tuple(missing),
    )


def _spoken_of(text: str, tools: Sequence[str]) -> str:
    """The one tool that ``text`` speaks of as a tool; "" for none, several, or one denied.

    A name that is also a plain word counts only beside the word "tool" or in marks of code.
    """
    spoken = [name for name in tools if _is_spoken_of(name, text)]
    if len(spoken) != 1:
        return ""
    name = re.escape(spoken[0])
    denied = (
        rf"(?i){_DENIED}[^.\n]{{0,40}}{name}\b"
        rf"|\b{name}\W{{1,4}}(?:tool\W+)?(?:\w+\W+)?\w*{_DENIED}"
    )
    return "" if re.search(denied, text) else spoken[0]


def _is_spoken_of(tool: str, text: str) -> bool:
    name = re.escape(tool)
    if not tool.isalpha():
        return bool(re.search(rf"(?i)(?<!\w){name}(?!\w)", text))
    marks = "[\"'`*]*"
    beside = rf"\btool(?: is| should be|:)? {marks}{name}\b|\b{name}{marks} tool\b"
    return bool(re.search(rf"(?i)[`*]{name}[`*]|{beside}", text))


def tool_name(value: str) -> str:
    """The name in a Tool line's value, without what models write around it."""
    lines = [line for line in levelled(value[:MAX_NAME]).splitlines() if line.strip(_MARKS + "#-")]
    if len(lines) > 1 and lines[0].lstrip().startswith("```"):  # a fence around the name
        lines = lines[1:]
    if not lines:
        return ""
    if lines[0].lstrip().startswith("{"):
        called = [_tool_of(found.value) for found in strict_objects("\n".join(lines))]
        if any(called):
            return next(filter(None, called))
    name = _LATEX.sub(r"\1", lines[0]).replace("\\_", "_")
    name = _TAGGED.sub(r"\2", name).strip(_MARKS + "#")
    name = _BULLET.sub("", name)
    name = _ARGUMENTS.sub("", name)
    return name.strip(_MARKS).rstrip(".,;:!").strip(_MARKS)


def _from_labels(found: Sequence[Labelled]) -> PlanParts:
    """The values that go with the last tool that is named.

    The nearest before it, as the prompt has them; those behind it where it stands first.
    """
    anchor, tool = len(found), ""
    for position in range(len(found) - 1, -1, -1):
        tool = tool_name(found[position].value) if found[position].key == "tool" else ""
        if tool:
            anchor = position
            break
    before, after = list(reversed(found[:anchor])), list(found[anchor + 1 :])
    tool_first = bool(found) and found[0].key == "tool"
    nearest = [*after, *before] if tool_first else [*before, *after]
    values: dict[str, str] = {}
    for part in nearest:
        if part.key != "tool" and part.value:
            values.setdefault(part.key, _unquoted(part.value))
    return _parts(values, tool)


def _parts(values: Mapping[str, str], tool: str) -> PlanParts:
    return PlanParts(
        justification=values.get("justification") or values.get("reason", ""),
        context=values.get("context", ""),
        sub_goal=values.get("sub_goal", ""),
        tool=tool,
    )


def _from_objects(text: str) -> PlanParts | None:
    objects: list[Mapping[str, Any]] = []
    for found in objects_in(text):
        objects += _plans_in(found.value)
    for held in reversed(objects):
        tool = _tool_of(held)
        if not tool:
            continue
        values: dict[str, str] = {}
        for name, value in held.items():
            key = _GRAMMAR.key_of(name)
            if key not in (None, "tool") and value is not None:
                values[key] = _as_text(value)
        return _parts(values, tool)
    return None


def _plans_in(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The object, or the plans that it wraps: ``{"plan": {…}}``, ``{"steps": [{…}, {…}]}``."""
    if _tool_of(value) or len(value) != 1:
        return [value]
    (wrapped,) = value.values()
    items = wrapped if isinstance(wrapped, list) else [wrapped]
    return [item for item in items if isinstance(item, dict)]


def _tool_of(value: Mapping[str, Any]) -> str:
    """The tool that an object names, by a plan's key or a call's; "" where it names none."""
    named = [name for name in value if _GRAMMAR.key_of(name) == "tool"]
    for name in (*named, *_CALL_NAMES):
        tool = value.get(name)
        if isinstance(tool, list) and len(tool) == 1:
            tool = tool[0]
        if isinstance(tool, dict):  # {"tool": {"name": …}}
            tool = next((tool[key] for key in _CALL_NAMES if key in tool), None)
        if isinstance(tool, str) and tool_name(tool):
            return tool_name(tool)
    return ""


def _as_text(value: Any) -> str:
    """A value of an object as the next prompt shows it."""
    if isinstance(value, str):
        return value.strip()
    return json.dumps(value, ensure_ascii=False)


def _unquoted(value: str) -> str:
    """Without the quotation marks around the whole of it, and an object's comma behind them."""
    if value.endswith(('",', "',")):
        value = value[:-1]
    for mark in "\"'":
        inner = value[1:-1]
        if len(value) > 2 and value[0] == value[-1] == mark and mark not in inner:
            return inner.strip()
    return value


def _from_tags(text: str) -> PlanParts | None:
    """``<tool>…</tool>`` and the like; of each the last pair that holds anything. None without a
    tool and a sub-goal: text between words may have marks of any kind.
    """
    values: dict[str, str] = {}
    for key, held in tag_pairs(text, _TAG, _GRAMMAR.key_of):
        if held.strip():
            values[key] = held.strip()
    tool = tool_name(values.pop("tool", ""))
    if not tool or "sub_goal" not in values:
        return None
    return _parts(values, tool)
