"""A tool call's arguments.

Read in this order, the first that gives the tool's required arguments counts:

    object    a JSON object outside of fenced programs; the last in a fence, else the last. A
              wrapper around the arguments is taken off: {"name", "arguments"} and its kin, also
              with the arguments as a JSON text, <tool_call>, {"properties": …}, {"the_tool": {…}};
              so are the words of a wrapper beside them: {"tool": "the_tool", "key": "value"}
    tags      <parameter=key>value</parameter>, <arg_key>key</arg_key><arg_value>…</arg_value>,
              <key>value</key>
    call      the_tool(key="value"), or call = tool.execute(key="value"), literals only
    program   a fenced block, for a tool whose only required argument is a string: the last in a
              programming language, else the last that is not announced as an output
    repaired  a broken object, see ``objects``
    lines     a mapping in YAML: "key: value", and "key: |" before an indented program

Where none gives the required arguments, an object that was found is returned all the same: the
check against the schema says what is wrong. A string argument that is a whole fenced block is the
block's content; "5" is 5 where a number is asked for.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from agentflow_verl.core.errors import MalformedOutput
from agentflow_verl.core.unicode import well_formed
from agentflow_verl.flow.parse.clean import Fence, fences, tag_pairs, without_reasoning
from agentflow_verl.flow.parse.objects import (
    Found,
    is_object_block,
    repaired_object,
    strict_objects,
)

MAX_DEPTH = 64  # of a call's arguments; pydantic writes no JSON deeper than 255
MAX_CALL = 20_000  # characters of a call in Python's syntax
_PAYLOADS = (
    *("arguments", "parameters", "args", "params", "kwargs", "input", "inputs"),
    *("tool_input", "action_input", "tool_arguments", "tool_parameters", "properties"),
    *("function", "function_call", "tool_call", "tool_calls", "call"),
)
# What a wrapper says beside the arguments, and a schema that was copied beside them.
_BESIDE = frozenset(
    ("name", "tool", "tool_name", "id", "type", "title", "description", "properties", "required")
    + ("additionalProperties", "$schema", "thought", "reasoning", "explanation")
)
_OUTPUTS = ("text", "txt", "output", "plaintext", "plain", "console", "result", "stdout", "log")
_ANNOUNCED = re.compile(r"(?:output|result|prints?|returns?|gives?|shows?)\b[^\n]{0,40}$", re.I)
_TAG_OPENS = re.compile(
    r"<parameter(?:=|\s{1,4}name=)[\"']?(\w+)[\"']?\s{0,4}>"
    r"|<arg_key>\s{0,4}(\w+)\s{0,4}</arg_key>\s{0,4}<arg_value>"
)
_NAMED_TAG = re.compile(r"<(/?)(\w{1,64})>")
_ANCHOR = re.compile(r"(?:^|[\s\[{,:])[&*]\w")  # what lets a short YAML grow without end
_TAG_CLOSES = re.compile(r"</parameter>|</arg_value>")
_CALL = re.compile(r"(?:[A-Za-z_]\w*[ \t]*=[ \t]*)?(?P<call>[A-Za-z_][\w.\-]*\()")
_LITERALS: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def parse_arguments(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The executor's arguments, not yet checked against ``schema``. Raises MalformedOutput."""
    wanted = _Wanted(schema)
    text = without_reasoning(text)
    blocks = fences(text)
    programs = [block for block in blocks if not is_object_block(block)]
    objects = [
        Found(wanted.unwrapped(found.value), found.start, found.end)
        for found in strict_objects(text)
        if not _is_inside(found, programs)
    ]
    arguments = _chosen(objects, blocks, wanted)
    if arguments is None or not wanted.is_met_by(arguments):
        better = _from_other_forms(text, programs, wanted)
        # An object as it was written stands, unless the other reading is what the tool asks for.
        if arguments is None or (better is not None and wanted.is_met_by(better)):
            arguments = better
    if arguments is None:
        raise MalformedOutput("the tool call is not a JSON object of arguments")
    arguments = _typed(_without_fences(arguments, wanted), wanted)
    recordable: dict[str, Any] = _recordable(arguments)
    return recordable


class _Wanted:
    """What a tool's schema asks for."""

    def __init__(self, schema: Mapping[str, Any]):
        properties = schema.get("properties")
        required = schema.get("required")
        self.properties: Mapping[str, Any] = properties if isinstance(properties, dict) else {}
        self.required: list[str] = required if isinstance(required, list) else []
        self.only_string = self._only_string()

    def _only_string(self) -> str | None:
        """The name of the one required argument where that is a string."""
        if len(self.required) != 1:
            return None
        described = self.properties.get(self.required[0])
        if isinstance(described, dict) and described.get("type") == "string":
            return self.required[0]
        return None

    def known(self, name: str) -> str | None:
        """``name`` where the tool has an argument of that name."""
        return name if name in self.properties else None

    def is_met_by(self, arguments: Mapping[str, Any]) -> bool:
        """Whether all that is required is there, and nothing that the tool does not know."""
        unknown = self.properties and any(name not in self.properties for name in arguments)
        return not unknown and all(name in arguments for name in self.required)

    def unwrapped(self, value: dict[str, Any], depth: int = 4) -> dict[str, Any]:
        """The arguments inside a wrapper; ``value`` itself where it holds none that fit."""
        if depth == 0 or self.is_met_by(value):
            return value
        own = {name: each for name, each in value.items() if name in self.properties}
        others = value.keys() - own.keys()
        # A "name" alone may be the tool's own argument, or the wrapper's word.
        if self.is_met_by(own) and own.keys() - _BESIDE and others <= _BESIDE:
            return own
        names = [name for name in _PAYLOADS if name in value]
        if len(value) == 1:  # {"the_tool": {…}}
            names = list(value)
        for name in names:
            inner = self._payload(value[name])
            if inner is not None:
                inner = self.unwrapped(inner, depth - 1)
                if self.is_met_by(inner) or "name" in value:
                    return inner
        return value

    def _payload(self, value: Any) -> dict[str, Any] | None:
        if isinstance(value, list) and value:  # tool_calls: one call is made
            value = value[0]
        if isinstance(value, dict):
            return value
        if not isinstance(value, str):
            return None
        try:
            loaded = json.loads(value, strict=False)
        except (ValueError, RecursionError):
            loaded = None
        if isinstance(loaded, dict):
            return loaded
        return None if self.only_string is None else {self.only_string: value}


def _is_inside(found: Found, blocks: Sequence[Fence]) -> bool:
    return any(block.start <= found.start and found.end <= block.end for block in blocks)


def _chosen(
    objects: Sequence[Found], blocks: Sequence[Fence], wanted: _Wanted
) -> dict[str, Any] | None:
    if not objects:
        return None

    def rank(found: Found) -> tuple[bool, bool, int]:
        return wanted.is_met_by(found.value), _is_inside(found, blocks), found.start

    return max(objects, key=rank).value


def _from_other_forms(
    text: str, programs: Sequence[Fence], wanted: _Wanted
) -> dict[str, Any] | None:
    tagged = _from_tags(text, wanted) or _from_named_tags(_outside(text, programs), wanted)
    if tagged:
        return tagged
    called = _from_call(text, programs, wanted)
    if called is not None:
        return called
    program = _program(text, programs)
    if program is not None and wanted.only_string is not None:
        return {wanted.only_string: program}
    repaired = repaired_object(_outside(text, programs), wanted.properties)
    found = None if repaired is None else wanted.unwrapped(repaired.value)
    if found is not None and wanted.is_met_by(found):
        return found
    lines = _from_lines(text, wanted)
    return found if lines is None else lines


def _from_tags(text: str, wanted: _Wanted) -> dict[str, Any]:
    found: dict[str, Any] = {}
    opening = _TAG_OPENS.search(text)
    while opening:
        closing = _TAG_CLOSES.search(text, opening.end())
        if closing is None:
            break
        name = opening[1] or opening[2]
        value = text[opening.end() : closing.start()].removeprefix("\n").removesuffix("\n")
        found[name] = _tag_value(value, wanted, name)
        opening = _TAG_OPENS.search(text, closing.end())
    return found


def _from_named_tags(text: str, wanted: _Wanted) -> dict[str, Any]:
    """``<key>value</key>`` in a text that is nothing but tags; of each key the last pair."""
    text = text.strip()
    if not (text.startswith("<") and text.endswith(">")):
        return {}
    found: dict[str, Any] = {}
    for name, held in tag_pairs(text, _NAMED_TAG, wanted.known):
        value = held.removeprefix("\n").removesuffix("\n")
        found[name] = _tag_value(value, wanted, name)
    return found if wanted.is_met_by(found) else {}


def _from_lines(text: str, wanted: _Wanted) -> dict[str, Any] | None:
    """A mapping in YAML whose keys are arguments; all values are text, as ``_typed`` expects."""
    if not wanted.required or len(text) > MAX_CALL or _ANCHOR.search(text):
        return None
    try:
        found = yaml.load(text.strip(), yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not wanted.is_met_by(found):
        return None
    return found if all(found[name] for name in wanted.required) else None


def _tag_value(text: str, wanted: _Wanted, name: str) -> Any:
    """A tag's text as what the schema asks for: JSON, but text where text is asked for."""
    described = wanted.properties.get(name)
    if isinstance(described, dict) and described.get("type") == "string":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _from_call(text: str, programs: Sequence[Fence], wanted: _Wanted) -> dict[str, Any] | None:
    """The keywords of a text, or fenced block, that is one call with literal arguments."""
    bodies = [block.body for block in programs] or [text]
    source = bodies[-1].strip().strip("[]").strip()
    written = _CALL.match(source)
    if len(source) > MAX_CALL or written is None or not source.endswith(")"):
        return None
    name, arguments = written["call"].replace("-", "_"), source[written.end() :]
    try:
        call = ast.parse(name + arguments, mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not call.keywords:
            return None
        found = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
        json.dumps(found)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return found if wanted.is_met_by(found) else None


def _program(text: str, programs: Sequence[Fence]) -> str | None:
    """The body of the block that is the program and not its output."""
    written = [block for block in programs if block.language and block.language not in _OUTPUTS]
    python = [block for block in written if block.language.startswith("py")]
    if written:
        return (python or written)[-1].body
    unnamed = [block for block in programs if not _is_announced_output(text, block)]
    return unnamed[-1].body if unnamed else None


def _is_announced_output(text: str, block: Fence) -> bool:
    if block.language in _OUTPUTS:
        return True
    before = text[max(0, block.start - 80) : block.start].rstrip()
    return bool(_ANNOUNCED.search(before))


def _outside(text: str, programs: Sequence[Fence]) -> str:
    kept, position = [], 0
    for block in programs:
        kept.append(text[position : block.start])
        position = block.end
    return "".join([*kept, text[position:]])


def _without_fences(arguments: dict[str, Any], wanted: _Wanted) -> dict[str, Any]:
    """A program that is fenced inside its argument, without the fence."""
    bare = {}
    for name, value in arguments.items():
        bare[name] = value
        blocks = fences(value.strip()) if isinstance(value, str) and "```" in value else []
        if len(blocks) != 1 or (blocks[0].start, blocks[0].end) != (0, len(value.strip())):
            continue
        if name == wanted.only_string or blocks[0].language.startswith("py"):
            bare[name] = blocks[0].body
    return bare


def _typed(arguments: dict[str, Any], wanted: _Wanted) -> dict[str, Any]:
    """With numbers and truth values that were written as text."""
    typed = dict(arguments)
    for name, value in arguments.items():
        described = wanted.properties.get(name)
        kind = described.get("type") if isinstance(described, dict) else None
        expected = _LITERALS.get(kind) if isinstance(kind, str) else None
        if expected is None or not isinstance(value, str) or len(value) > 40:
            continue
        try:
            loaded = json.loads(value.strip().lower() if kind == "boolean" else value.strip())
        except ValueError:
            continue
        if isinstance(loaded, bool) is not (kind == "boolean"):
            continue
        if not isinstance(loaded, (int, float)) or not math.isfinite(loaded):
            continue
        if isinstance(loaded, expected):
            typed[name] = loaded
    return typed


def _recordable(value: Any, depth: int = MAX_DEPTH) -> Any:
    """``value`` as a trajectory's JSON can hold it: well-formed text, at most ``depth`` deep."""
    if isinstance(value, str):
        return well_formed(value)
    if not isinstance(value, (dict, list)):
        return value
    if depth == 0:
        raise MalformedOutput(f"the arguments are nested more than {MAX_DEPTH} deep")
    if isinstance(value, list):
        return [_recordable(item, depth - 1) for item in value]
    return {well_formed(key): _recordable(item, depth - 1) for key, item in value.items()}
