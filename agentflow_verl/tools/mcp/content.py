"""MCP's records in agentflow's words: a listed tool as a ``ToolSpec``, a result's content blocks as
text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from agentflow_verl.core.unicode import well_formed
from agentflow_verl.tools.session import STATE_KEPT
from agentflow_verl.tools.types import ToolSpec

NOTES = "agentflow/notes"
CACHEABLE = "agentflow/cacheable"
FINGERPRINT = "agentflow/fingerprint"
KEEPS_STATE = "agentflow/keeps_state"
KEEPS_DEADLINE = "agentflow/keeps_deadline"
_SERVER_INFO = "io.modelcontextprotocol/serverInfo"


def to_spec(tool: Mapping[str, Any], server: str = "") -> ToolSpec:
    """A tool of ``tools/list``. Raises ``KeyError`` or ``TypeError`` where it is not one."""
    name, schema, meta = tool["name"], tool["inputSchema"], tool.get("_meta") or {}
    hints = tool.get("annotations") or {}
    if not isinstance(name, str) or not name or not isinstance(schema, dict):
        raise TypeError(f"tool {name!r} with schema {type(schema).__name__}")
    return ToolSpec(
        name=name,
        description=well_formed(str(tool.get("description") or "")),
        parameters=schema,
        notes=well_formed(str(meta.get(NOTES) or "")),
        cacheable=meta.get(CACHEABLE) is True,
        # By default a tool writes (MCP), but few servers give hints: only a stated one counts.
        repeatable=hints.get("readOnlyHint") is not False or hints.get("idempotentHint") is True,
        server=server,
        fingerprint=str(meta.get(FINGERPRINT) or ""),
        keeps_state=meta.get(KEEPS_STATE) is True,
        keeps_deadline=meta.get(KEEPS_DEADLINE) is True,
    )


def stated_server(result: Mapping[str, Any]) -> str:
    """Name and version that a server gives itself, with every answer or in the handshake; empty if
    it gives none.
    """
    meta = result.get("_meta")
    info = result.get("serverInfo")
    if isinstance(meta, Mapping):
        info = meta.get(_SERVER_INFO)
    if not isinstance(info, Mapping):
        return ""
    return f"{info.get('name')} {info.get('version')}"


def says_state_kept(result: Mapping[str, Any]) -> bool:
    """Whether the trajectory's next call will find what this one left."""
    return (result.get("_meta") or {}).get(STATE_KEPT) is True


def result_text(result: Mapping[str, Any]) -> str:
    """The text of a tool's result. What is not text is named, never passed on; structured content
    follows where the text does not already say all of it, as servers should have it do.
    """
    blocks = list(map(_block_text, result.get("content") or ()))
    data = result.get("structuredContent")
    if data is not None and not _says_all("\n".join(blocks), data):
        blocks = list(filter(None, blocks))
        blocks.append(json.dumps(data, ensure_ascii=False))
    return well_formed("\n".join(blocks))


def _says_all(text: str, data: Any) -> bool:
    """Whether every value in ``data`` stands in the text."""
    if not text.strip():
        return False
    # A list of what is left to look at, not recursion: a server's data may be nested deeply.
    pending = [data]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            pending += value.values()
        elif isinstance(value, list):
            pending += value
        elif not any(form in text for form in _forms(value)):
            return False
    return True


def _forms(value: Any) -> tuple[str, ...]:
    """A value as text and as JSON, whose quotes are left out."""
    escaped = json.dumps(value)
    unescaped = json.dumps(value, ensure_ascii=False)
    return str(value), escaped.strip('"'), unescaped.strip('"')


def _block_text(block: Mapping[str, Any]) -> str:
    kind = block["type"]
    if kind == "text":
        text = block["text"]
        if not isinstance(text, str):
            raise TypeError("text block without text")
        return text
    if kind == "resource" and isinstance(inner := block["resource"].get("text"), str):
        return inner
    if kind == "resource_link":
        return f"[link {block.get('uri')}]"
    return f"[{kind} {block.get('mimeType', '')} left out]".replace("  ", " ")
