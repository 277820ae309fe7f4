"""One tool call on the wire: how long it may take, what it returns, and how it fails.

A failure inside the tool's contract (a program that raises, nothing found) is a text result, marked as error when it
is one, and meant for the model. A failure of the server itself is a JSON-RPC error (``MCPError``), and is not.
"""

from __future__ import annotations

import math
import time
from typing import Any

from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, CallToolResult, TextContent

REMAINING_S = "agentflow/remaining_s"
"""Key in a request's ``_meta``: seconds the caller has left, a number."""
NOTES = "agentflow/notes"
"""Key in a tool's ``_meta``: limitations and best practices, for prompts."""
PURE = "agentflow/pure"
"""Key in a tool's ``_meta``: true when equal arguments give equal results for the life of the server."""
SERVER_BUSY = -32_050
"""JSON-RPC error code: the call waited for a free slot until its deadline and was never started."""


def deadline(context: Context, timeout: float) -> float:
    """The point on ``time.monotonic`` at which this call must have ended: the caller's seconds or ours, the fewer.

    Raises MCPError (invalid params) when the caller's value is not a number.
    """
    asked = (context.request_context.meta or {}).get(REMAINING_S)
    if asked is None:
        return time.monotonic() + timeout
    if isinstance(asked, bool) or not isinstance(asked, (int, float)) or not math.isfinite(asked):
        raise MCPError(INVALID_PARAMS, f"_meta {REMAINING_S!r} must be a number of seconds, not {asked!r}")
    return time.monotonic() + min(max(0.0, float(asked)), timeout)


def meta(notes: str, pure: bool) -> dict[str, Any]:
    """The ``_meta`` of a listed tool."""
    return {NOTES: notes, PURE: pure}


def answer(text: str) -> CallToolResult:
    """A result for the model to read."""
    return CallToolResult(content=[TextContent(type="text", text=text)])


def failure(text: str) -> CallToolResult:
    """A failure inside the contract, for the model to read and act on."""
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


def broken(text: str) -> MCPError:
    """A failure of the server itself: raise it."""
    return MCPError(INTERNAL_ERROR, text)
