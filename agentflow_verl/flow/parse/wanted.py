"""What a tool's schema asks for, and the arguments inside the wrappers that models put around them.

A wrapper is {"name", "arguments"} and its kin, also with the arguments as a JSON text, as the only
string that the tool asks for, or in a list; {"properties": …}; {"the_tool": {…}}; and words of a
wrapper beside the arguments: {"tool": "the_tool", "key": "value"}.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

_PAYLOADS = (
    *("arguments", "parameters", "args", "params", "kwargs", "input", "inputs"),
    *("tool_input", "tool_args", "tool_params", "action_input", "tool_arguments"),
    *("tool_parameters", "properties"),
    *("function", "function_call", "tool_call", "tool_calls", "call"),
)
# What a wrapper says beside the arguments, and a schema that was copied beside them.
_BESIDE = frozenset(
    ("name", "tool", "tool_name", "id", "type", "title", "description", "properties", "required")
    + ("additionalProperties", "$schema", "thought", "reasoning", "explanation")
    + ("language", "comment", "reason", "note")
)
_PROGRAM_NAMES = ("code", "program", "script", "source")
_FORMS = ("...", "\u2026")  # what the prompt's form has in a value's place
_LOST = {"\b": "\\b", "\f": "\\f"}  # "\b" of a regular expression, "\frac": no text wants the sign
_GROUPED = re.compile(r"-?\d{1,3}(?:,\d{3})+")
_LITERALS: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


class Wanted:
    """What a tool's schema asks for."""

    def __init__(self, schema: Mapping[str, Any]):
        properties = schema.get("properties")
        required = schema.get("required")
        self.properties: Mapping[str, Any] = properties if isinstance(properties, dict) else {}
        self.required: list[str] = required if isinstance(required, list) else []
        self.only_string = self._only_string()

    def _only_string(self) -> str | None:
        """The name of the one required argument where that is a string."""
        if len(self.required) == 1 and self.kind_of(self.required[0]) == "string":
            return self.required[0]
        return None

    @property
    def is_for_programs(self) -> bool:
        """Whether the one string that the tool asks for is a program, by its name."""
        return self.only_string in _PROGRAM_NAMES

    def kind_of(self, name: str) -> str | None:
        """The schema's type of an argument, where it names a single one."""
        described = self.properties.get(name)
        kind = described.get("type") if isinstance(described, dict) else None
        return kind if isinstance(kind, str) else None

    def known(self, name: str) -> str | None:
        """The argument that ``name`` is, in any letter case."""
        if name in self.properties:
            return name
        folded = name.casefold()
        return next((each for each in self.properties if each.casefold() == folded), None)

    def is_met_by(self, arguments: Mapping[str, Any]) -> bool:
        """Whether all that is required is there, and nothing that the tool does not know."""
        if self.properties and any(name not in self.properties for name in arguments):
            return False
        return all(name in arguments and arguments[name] not in _FORMS for name in self.required)

    def unwrapped(
        self, value: dict[str, Any], guess: bool = False, depth: int = 4
    ) -> dict[str, Any]:
        """The arguments inside a wrapper; ``value`` itself where it holds none that fit.

        Args:
            guess: the text under any lone key may be the one string that the tool asks for; else
                only the text under a wrapper's own word.
        """
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
            inner = self._payload(value[name], guess or name in _PAYLOADS)
            if inner is not None:
                inner = self.unwrapped(inner, guess, depth - 1)
                if self.is_met_by(inner) or "name" in value:
                    return inner
        return value

    def _payload(self, value: Any, text_counts: bool) -> dict[str, Any] | None:
        if isinstance(value, list) and value:  # tool_calls: one call is made
            value = value[0]
        if isinstance(value, dict):
            return value
        if not isinstance(value, str):
            return None
        loaded = _object_in(value)
        if loaded is not None:
            return loaded
        return {self.only_string: value} if self.only_string and text_counts else None

    def once_more(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments that were written once more as the text of the only string."""
        text = arguments.get(self.only_string) if self.only_string else None
        inner = _object_in(text) if isinstance(text, str) else None
        return inner if inner is not None and self.is_met_by(inner) else arguments

    def typed(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """With numbers and truth values that were written as text, and with the backslashes that
        JSON takes for escapes.
        """
        typed = dict(arguments)
        for name, value in arguments.items():
            if isinstance(value, str):
                typed[name] = self._typed(value, self.kind_of(name))
        return typed

    def _typed(self, value: str, kind: str | None) -> Any:
        if kind == "string":
            for sign, written in _LOST.items():
                value = value.replace(sign, written)
            return value
        if kind in ("array", "object"):
            return _loaded(value, list if kind == "array" else dict)
        expected = _LITERALS.get(kind or "")
        if expected is None or len(value) > 40:
            return value
        if _GROUPED.fullmatch(value):
            value = value.replace(",", "")
        try:
            loaded = json.loads(value.strip().lower() if kind == "boolean" else value.strip())
        except ValueError:
            return value
        if isinstance(loaded, bool) is not (kind == "boolean"):
            return value
        if not isinstance(loaded, (int, float)) or not math.isfinite(loaded):
            return value
        return loaded if isinstance(loaded, expected) else value


def _object_in(text: str) -> dict[str, Any] | None:
    """The object that all of ``text`` is."""
    loaded = _loaded(text, dict) if text.lstrip().startswith("{") else None
    return loaded if isinstance(loaded, dict) else None


def _loaded(text: str, kind: type) -> Any:
    """What ``text`` is as JSON where that is of the ``kind``, else ``text``."""
    try:
        loaded = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return text
    return loaded if isinstance(loaded, kind) else text
