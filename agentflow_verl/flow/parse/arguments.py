"""A tool call's arguments.

Read in this order, the first that gives the tool's required arguments counts:

    object    a JSON object outside of fenced programs; the last in a fence, else the last. A
              wrapper around the arguments is taken off (``wanted``)
    tags      <parameter=key>value</parameter>, <arg_key>key</arg_key><arg_value>…</arg_value>,
              <key>value</key>
    call      the_tool(key="value"), or call = tool.execute(key="value"), literals only; with the
              value alone where the tool asks for one string that is no program
    program   a fenced block, for a tool whose only required argument is a string: the last in a
              programming language, else the last that is not announced as an output
    repaired  a broken object, see ``objects``; or one whose only string has quotes without escapes
    lines     "key: value" a line, or a mapping in YAML with "key: |" before an indented program
    guess     the text under the lone key of an object, whatever the key

Where none gives the required arguments, an object that was found is returned all the same: the
check against the schema says what is wrong. "..." is no value. A string argument that is a whole
fenced block is the block's content, one that is the arguments once more is those, a program whose
line breaks are escaped twice has them; "5" is 5 where a number is asked for.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Sequence
from typing import Any

from agentflow_verl.core.errors import MalformedOutput
from agentflow_verl.core.unicode import well_formed
from agentflow_verl.flow.parse.call_forms import (
    MAX_CALL,
    from_call,
    from_lines,
    from_program,
    from_tags,
)
from agentflow_verl.flow.parse.clean import Fence, fences, without_reasoning
from agentflow_verl.flow.parse.objects import (
    Found,
    decoded,
    is_object_block,
    repaired_object,
    strict_objects,
)
from agentflow_verl.flow.parse.wanted import Wanted

MAX_DEPTH = 64  # of a call's arguments; pydantic writes no JSON deeper than 255
_ONE_STRING = re.compile(
    r'\{\s*"(\w{1,64})"\s*:\s*"(.*)"\s*,?\s*\}[\s`]*(?:</?[\w|]{1,20}>\s*){0,4}\Z', re.DOTALL
)
_NEXT_KEY = re.compile(r'",\s*"[^"\n]{0,64}"\s*:')


def parse_arguments(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The executor's arguments, not yet checked against ``schema``. Raises MalformedOutput."""
    wanted = Wanted(schema)
    text = decoded(without_reasoning(text))
    blocks = fences(text)
    programs = [block for block in blocks if not is_object_block(block)]
    objects = [found for found in strict_objects(text) if not _is_inside(found, programs)]
    arguments = _chosen(objects, blocks, wanted, guess=False)
    if arguments is None or not wanted.is_met_by(arguments):
        better = _from_other_forms(text, programs, wanted)
        if better is None or not wanted.is_met_by(better):
            better = _chosen(objects, blocks, wanted, guess=True) or better
        # An object as it was written stands, unless the other reading is what the tool asks for.
        if arguments is None or (better is not None and wanted.is_met_by(better)):
            arguments = better
    if arguments is None:
        raise MalformedOutput("the tool call is not a JSON object of arguments")
    arguments = wanted.typed(_without_fences(wanted.once_more(arguments), wanted))
    recordable: dict[str, Any] = _recordable(arguments)
    return recordable


def _is_inside(found: Found, blocks: Sequence[Fence]) -> bool:
    return any(block.start <= found.start and found.end <= block.end for block in blocks)


def _chosen(
    objects: Sequence[Found], blocks: Sequence[Fence], wanted: Wanted, guess: bool
) -> dict[str, Any] | None:
    best, best_rank = None, (False, False, -1)
    for found in objects:
        value = wanted.unwrapped(found.value, guess)
        rank = (wanted.is_met_by(value), _is_inside(found, blocks), found.start)
        if rank > best_rank:
            best, best_rank = value, rank
    return best


def _from_other_forms(
    text: str, programs: Sequence[Fence], wanted: Wanted
) -> dict[str, Any] | None:
    for read in (from_tags, from_call, from_program):
        found = read(text, programs, wanted)
        if found is not None:
            return found
    outside = _outside(text, programs)
    repaired = repaired_object(outside, wanted.properties)
    found = None if repaired is None else wanted.unwrapped(repaired.value)
    if found is not None and wanted.is_met_by(found):
        return found
    return _one_string(outside, wanted) or from_lines(text, wanted) or found


def _one_string(text: str, wanted: Wanted) -> dict[str, Any] | None:
    """An object of the only string that the tool asks for, all between its first quote and its
    last: quotes inside a program are often not escaped.
    """
    start = text.find("{")
    if start < 0 or len(text) > MAX_CALL:
        return None
    written = _ONE_STRING.match(text, start)
    if written is None or written[1] != wanted.only_string or _NEXT_KEY.search(written[2]):
        return None
    body = re.sub(r'\\(?!["\\/bfnrtu])', r"\\\\", written[2])
    body = re.sub(r'(?<!\\)"', r"\"", body)
    try:
        return {written[1]: json.loads(f'"{body}"', strict=False)}
    except ValueError:
        return None


def _outside(text: str, programs: Sequence[Fence]) -> str:
    kept, position = [], 0
    for block in programs:
        kept.append(text[position : block.start])
        position = block.end
    return "".join([*kept, text[position:]])


def _without_fences(arguments: dict[str, Any], wanted: Wanted) -> dict[str, Any]:
    """A program that is fenced inside its argument, without the fence and the words around it."""
    bare = {}
    for name, value in arguments.items():
        bare[name] = value
        if not isinstance(value, str):
            continue
        text = value.strip()
        blocks = fences(text) if "```" in text else []
        if len(blocks) == 1:
            is_whole = (blocks[0].start, blocks[0].end) == (0, len(text))
            is_python = blocks[0].language.startswith("py")
            if is_whole and (is_python or name == wanted.only_string):
                bare[name] = blocks[0].body
            elif is_python and wanted.is_for_programs and not _is_python(text):
                bare[name] = blocks[0].body
        elif wanted.is_for_programs and "\\n" in text and "\n" not in text:
            lines = value.replace("\\n", "\n")  # escaped once too often
            bare[name] = lines if _is_python(lines) and not _is_python(text) else value
    return bare


def _is_python(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an escape that Python does not know
            ast.parse(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


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
