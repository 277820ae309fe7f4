"""JSON arguments against a tool's JSON schema, with messages that a planner can act on.

The executor's arguments are model text. What leaves this module satisfies the schema and can be
sent; everything else is ``MalformedOutput`` that names the argument and what was expected.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from agentflow_verl.core.errors import ConfigError, MalformedOutput

MAX_COMPLAINTS = 3
_SHOWN = 80


class ArgumentCheck:
    """The compiled schema of one tool's arguments. Raises ``ConfigError`` if the schema itself is
    invalid.
    """

    def __init__(self, tool: str, schema: dict[str, Any]) -> None:
        self._tool = tool
        self._schema = schema
        # MCP: JSON Schema 2020-12 unless "$schema" says otherwise.
        kind = validator_for(schema, default=jsonschema.Draft202012Validator)
        try:
            kind.check_schema(schema)
        except SchemaError as error:
            raise ConfigError(
                f"tool {tool}: its server lists an invalid argument schema: {error.message}"
            ) from None
        # An empty registry: a "$ref" in a server's schema must not make this process fetch a URL.
        self._validator = kind(schema, registry=Registry())

    def __call__(self, arguments: Any) -> None:
        """Raise ``MalformedOutput`` unless ``arguments`` satisfy the schema."""
        if not isinstance(arguments, dict):
            raise self._malformed(f"arguments must be a JSON object, not {_show(arguments)}")
        try:
            errors = list(self._validator.iter_errors(arguments))
        except Unresolvable as error:
            raise ConfigError(
                f"tool {self._tool}: its argument schema refers to {error.ref}, outside itself"
            ) from None
        except RecursionError:
            raise self._malformed("arguments are nested too deeply") from None
        if errors:
            errors.sort(key=lambda error: [str(step) for step in error.absolute_path])
            # The branches of an anyOf may complain in the same words: each text once, in order.
            complaints = list(dict.fromkeys(map(self._complaint, errors)))
            shown = "; ".join(complaints[:MAX_COMPLAINTS])
            if len(complaints) > MAX_COMPLAINTS:
                shown += f"; and {len(complaints) - MAX_COMPLAINTS} more"
            raise self._malformed(shown)

    def _malformed(self, what: str) -> MalformedOutput:
        return MalformedOutput(f"{self._tool}: {what}")

    def _complaint(self, error: ValidationError) -> str:
        where = _path(error)
        rule: Any = error.validator_value
        schema: Any = error.schema
        given: Any = error.instance
        if error.validator == "required":
            return _missing(where, [name for name in rule if name not in given], schema)
        if error.validator == "additionalProperties" and rule is False:
            known = list(schema.get("properties", {}))
            unknown = [_show(name) for name in given if name not in known]
            return (
                f"unknown argument {', '.join(unknown[:MAX_COMPLAINTS])}; known:"
                f" {', '.join(known) or 'none'}"
            )
        subject = "arguments"
        if where:
            subject = f"argument '{where}'"
        if error.validator in ("type", "enum", "const", "anyOf", "oneOf"):
            return f"{subject} must be {expected(schema)}, not {_show(given)}"
        return f"{subject} must satisfy {error.validator}: {_show(rule)}, got {_show(given)}"


def expected(schema: Any) -> str:
    """A JSON schema in a few words: ``integer or null``, ``one of 'a', 'b'``."""
    if not isinstance(schema, Mapping):
        return "a value"
    if "enum" in schema:
        return "one of " + ", ".join(map(_show, schema["enum"]))
    if "const" in schema:
        return _show(schema["const"])
    kind = schema.get("type")
    if isinstance(kind, str):
        return kind
    if isinstance(kind, (list, tuple)):
        return " or ".join(kind)
    for branch in ("anyOf", "oneOf"):
        if branch in schema:
            return " or ".join(dict.fromkeys(map(expected, schema[branch])))
    return "a value"


def _missing(where: str, names: list[str], schema: Mapping[str, Any]) -> str:
    properties = schema.get("properties", {})
    complaints = []
    for name in names:
        wanted = expected(properties.get(name, {}))
        complaints.append(f"argument '{_join(where, name)}' is missing, expected {wanted}")
    return "; ".join(complaints)


def _path(error: ValidationError) -> str:
    """Where the error is, as in ``queries[0].text``; empty for the arguments as a whole."""
    where = ""
    for step in error.absolute_path:
        if isinstance(step, int):
            where = f"{where}[{step}]"
        else:
            where = _join(where, step)
    return where


def _join(where: str, name: str) -> str:
    if not where:
        return str(name)
    return f"{where}.{name}"


def _show(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, or too deep to print
        text = f"<{type(value).__name__}>"
    if len(text) > _SHOWN:
        return text[:_SHOWN] + "…"
    return text
