"""A tool's arguments in forms other than a JSON object: tags, a call, a fenced program, lines."""

from __future__ import annotations

import ast
import builtins
import json
import re
from collections.abc import Sequence
from typing import Any

import yaml

from agentflow_verl.flow.parse.clean import Fence, tag_pairs
from agentflow_verl.flow.parse.wanted import Wanted

MAX_CALL = 20_000  # characters of a call in Python's syntax, or of lines
MAX_STARTS = 8  # places in a text where a call may start
_DATA = ("yaml", "yml", "toml", "ini", "xml", "html")
_OUTPUTS = ("text", "txt", "output", "plaintext", "plain", "console", "result", "stdout", "log")
_ANNOUNCED = re.compile(r"(?:output|result|prints?|returns?|gives?|shows?)\b[^\n]{0,80}$", re.I)
_TAG_OPENS = re.compile(
    r"<parameter(?:=|\s{1,4}name=)[\"']?(\w+)[\"']?\s{0,4}>"
    r"|<arg_key>\s{0,4}(\w+)\s{0,4}</arg_key>\s{0,4}<arg_value>"
)
_TAG_CLOSES = re.compile(r"</parameter>|</arg_value>")
_NAMED_TAG = re.compile(r"<(/?)(\w{1,64})>")
_LINE_TAG = re.compile(r"(?m)^[ \t]*<(\w{1,64})>")
_ANCHOR = re.compile(r"(?:^|[\s\[{,:])[&*]\w")  # what lets a short YAML grow without end
_CALL = re.compile(r"(?<![\w.\-])([A-Za-z_][\w.\-]{0,100})\(")
_BEHIND_A_CALL = " \t\n`.;]"
_LINE = re.compile(r"[ \t]*(?:[-*][ \t]+)?[`\"'*]{0,2}(\w{1,64})[`\"'*]{0,2}[ \t]*[:=][ \t]*(.*)")
_YAML_SIGNS = tuple("|>{[&*!")  # a value that is more than the words of its line
_NEXT_MEMBER = re.compile(r"[\"'],\s*[\"']?\w+[\"']?\s*[:=]|[\"']\s*\}$")
_CONSTANTS = {"true": True, "false": False, "null": None}


def from_tags(text: str, programs: Sequence[Fence], wanted: Wanted) -> dict[str, Any] | None:
    """``<parameter=key>value</parameter>``, ``<arg_key>key</arg_key><arg_value>…``, or
    ``<key>value</key>`` in a text or fenced block that is nothing but tags.
    """
    found = _from_parameters(text, wanted)
    if found:
        return found
    for body in (text, *(block.body for block in programs)):
        found = _from_named_tags(body.strip(), wanted)
        if found:
            return found
    return None


def _from_parameters(text: str, wanted: Wanted) -> dict[str, Any]:
    found: dict[str, Any] = {}
    opening = _TAG_OPENS.search(text)
    while opening:
        closing = _TAG_CLOSES.search(text, opening.end())
        if closing is None:
            break
        name = opening[1] or opening[2]
        found[name] = _tag_value(text[opening.end() : closing.start()], wanted, name)
        opening = _TAG_OPENS.search(text, closing.end())
    return found


def _from_named_tags(text: str, wanted: Wanted) -> dict[str, Any]:
    """Of each key the last pair. The first tag stands at the start of a line, behind prose only
    where it is one of the keys; the last ends the text.
    """
    start = 0 if text.startswith("<") else -1
    for tag in _LINE_TAG.finditer(text):
        if start < 0 and wanted.known(tag[1]):
            start = tag.start()
    if start < 0 or not text.endswith(">"):
        return {}
    text = text[start:]
    found: dict[str, Any] = {}
    for name, held in tag_pairs(text, _NAMED_TAG, wanted.known):
        found[name] = _tag_value(held, wanted, name)
    return found if wanted.is_met_by(found) else {}


def _tag_value(held: str, wanted: Wanted, name: str) -> Any:
    """A tag's text as what the schema asks for: JSON, but text where text is asked for."""
    text = held.removeprefix("\n").removesuffix("\n")
    if wanted.kind_of(name) == "string":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def from_call(text: str, programs: Sequence[Fence], wanted: Wanted) -> dict[str, Any] | None:
    """``the_tool(key="value")`` with literal arguments, at the end of a text or alone in its last
    fenced block; also with the one string that the tool asks for, unless that is a program.
    """
    source = programs[-1].body if programs else text
    source = source.strip().rstrip(_BEHIND_A_CALL)
    if len(source) > MAX_CALL or not source.endswith(")"):
        return None
    is_program = bool(programs) and wanted.is_for_programs
    for start in list(_CALL.finditer(source))[:MAX_STARTS]:
        name = start[1].rpartition(".")[2]
        if programs and not _stands_alone(source[: start.start()]):
            return None
        call = _parsed(source[start.end() - 1 :])
        if call is None or hasattr(builtins, name):
            continue
        found = _literal_arguments(call, None if is_program else wanted.only_string)
        if found is not None and wanted.is_met_by(found):
            return found
    return None


def _stands_alone(before: str) -> bool:
    """Whether a block holds nothing before a call but an assignment or ``print(``."""
    return re.fullmatch(r"\[?\s*(?:[A-Za-z_]\w*\s*=\s*|print\()?", before) is not None


def _parsed(arguments: str) -> ast.Call | None:
    """The call of which ``arguments`` is all from the opening bracket on."""
    for closed in (arguments, arguments[:-1]):  # the last bracket may be that of print(…)
        try:
            call = ast.parse(f"call{closed}", mode="eval").body
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            return call
    return None


def _literal_arguments(call: ast.Call, only_string: str | None) -> dict[str, Any] | None:
    try:
        found = {str(word.arg): _literal(word.value) for word in call.keywords}
        if len(call.args) == 1 and only_string and only_string not in found:
            found[only_string] = _literal(call.args[0])
            if not isinstance(found[only_string], str):
                return None
        elif call.args or not found:
            return None
        json.dumps(found)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return found


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return _CONSTANTS[node.id]
    return ast.literal_eval(node)


def from_program(text: str, programs: Sequence[Fence], wanted: Wanted) -> dict[str, Any] | None:
    """The body of the block that is the program and not its output, or the values that the block
    lists, for a tool that asks for one string only.
    """
    if wanted.only_string is None:
        return None
    block = _program(text, programs)
    if block is None:
        return None
    if block.language in _DATA or not wanted.is_for_programs:
        listed = from_lines(block.body, wanted)
        if listed is not None:
            return listed
    return {wanted.only_string: block.body}


def _program(text: str, blocks: Sequence[Fence]) -> Fence | None:
    programs = [block for block in blocks if block.body.strip()]
    written = [block for block in programs if block.language and block.language not in _OUTPUTS]
    python = [block for block in written if block.language.startswith("py")]
    if written:
        return (python or written)[-1]
    unnamed = [block for block in programs if not _is_announced_output(text, block)]
    statements = [block for block in unnamed if not _is_a_literal(block.body)]
    chosen = statements or unnamed
    return chosen[-1] if chosen else None


def _is_announced_output(text: str, block: Fence) -> bool:
    if block.language in _OUTPUTS:
        return True
    before = text[max(0, block.start - 120) : block.start].rstrip()
    return bool(_ANNOUNCED.search(before))


def _is_a_literal(body: str) -> bool:
    if len(body) > MAX_CALL:
        return False
    try:
        ast.literal_eval(body.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False
    return True


def from_lines(text: str, wanted: Wanted) -> dict[str, Any] | None:
    """An object's members or a call's keywords without what stands around them; "key: value" or
    "key = value", a line each, nothing beside; or a mapping in YAML, with "key: |" before an
    indented program. Values of lines are text, as ``Wanted.typed`` expects.
    """
    text = text.strip()
    if not wanted.required or len(text) > MAX_CALL:
        return None
    for found in (_members(text), _key_lines(text, wanted), _yaml(text)):
        if found is not None and wanted.is_met_by(found):
            return found if all(found[name] for name in wanted.required) else None
    return None


def _members(text: str) -> dict[str, Any] | None:
    """``"key": "value", "k": 3`` or ``key="value", k=3``."""
    try:
        loaded = json.loads(f"{{{text.strip('{},')}}}", strict=False)
    except (ValueError, RecursionError):
        call = _parsed(f"({text})")
        return None if call is None else _literal_arguments(call, None)
    return loaded if isinstance(loaded, dict) else None


def _key_lines(text: str, wanted: Wanted) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for line in text.splitlines():
        written = _LINE.fullmatch(line)
        name = wanted.known(written[1]) if written else None
        if written is None or name is None or name in found:
            return None
        value = written[2].strip()
        if value[:1] in _YAML_SIGNS or _NEXT_MEMBER.search(value):
            return None
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
        found[name] = value[1:-1] if quoted and value[0] not in value[1:-1] else value
    return found


def _yaml(text: str) -> dict[str, Any] | None:
    if _ANCHOR.search(text):
        return None
    try:
        found = yaml.load(text, yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
