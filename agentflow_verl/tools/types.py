"""What a tool is and what a call returns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_NAMED_SCHEMAS = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
_VALUES = ("const", "default", "enum", "examples")


@dataclass(frozen=True)
class ToolSpec:
    """One tool as its server lists it.

    ``parameters`` is the JSON schema of the arguments, ``notes`` the usage notes that prompts show
    (empty where the server gives none), ``cacheable`` whether equal arguments give an equal result
    while the server lives. ``repeatable`` is false where the server says that a call changes
    something and a second one would again (``readOnlyHint: false`` without ``idempotentHint``).
    ``server`` is the name and version it gives itself, ``fingerprint`` its word for everything else
    that shapes its answers, such as the digest of an index. ``keeps_state`` is true where calls
    that name their trajectory find what its earlier ones left, ``keeps_deadline`` where the server
    answers within the time that a call states, so that its silence is a fault. ``renamed_from`` is
    the server's name for a tool that the configuration calls otherwise.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    notes: str = ""
    cacheable: bool = False
    repeatable: bool = True
    server: str = ""
    fingerprint: str = ""
    keeps_state: bool = False
    keeps_deadline: bool = False
    renamed_from: str = ""

    @property
    def name_at_server(self) -> str:
        return self.renamed_from or self.name

    @cached_property
    def schema_text(self) -> str:
        """``parameters`` as JSON for prompts, without titles: a small model that read
        "python_coderArguments" wrote that as its program (docs/evidence.md).
        """
        return json.dumps(_without_titles(self.parameters), ensure_ascii=False, sort_keys=True)


@dataclass(frozen=True)
class ToolResult:
    """What a tool answered, an error inside its contract (``is_error``) included.

    ``truncated`` says that text is missing, ``seconds`` is the time from the call to the answer
    with waiting and retries, ``attempts`` how many requests it took (0: from the cache).
    ``state_kept`` is the server's word that the trajectory's next call will find what this one
    left.
    """

    tool: str
    text: str
    is_error: bool = False
    truncated: bool = False
    seconds: float = 0.0
    attempts: int = 1
    state_kept: bool = False


def _without_titles(schema: Any) -> Any:
    """A JSON schema without the annotation ``title``; an argument of that name stays."""
    if isinstance(schema, list):
        return [_without_titles(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {}
    for key, value in schema.items():
        if key in _NAMED_SCHEMAS and isinstance(value, dict):
            kept[key] = {name: _without_titles(part) for name, part in value.items()}
        elif key in _VALUES:
            kept[key] = value
        elif not (key == "title" and isinstance(value, str)):
            kept[key] = _without_titles(value)
    return kept
