"""One tool call on the wire: how long it may take, what it returns, and how it fails.

A failure inside the tool's contract (a program that raises, nothing found) is a text result, marked
as error when it is one, and meant for the model. A failure of the server itself is a JSON-RPC error
(``MCPError``), and is not.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, CallToolResult, TextContent

log = logging.getLogger(__name__)

REMAINING_S = "agentflow/remaining_s"
"""Key in a request's ``_meta``: seconds the caller has left, a number."""
NOTES = "agentflow/notes"
"""Key in a tool's ``_meta``: limitations and best practices, for prompts."""
CACHEABLE = "agentflow/cacheable"
"""Key in a tool's ``_meta``: true when equal arguments give equal results for the life of the
server.
"""
FINGERPRINT = "agentflow/fingerprint"
"""Key in a tool's ``_meta``: a text that changes with whatever shapes the answers."""
KEEPS_STATE = "agentflow/keeps_state"
"""Key in a tool's ``_meta``: true where calls that name their trajectory find what its earlier ones
left.
"""
SERVER_BUSY = -32_050
"""JSON-RPC error code: the call waited for a free slot until its deadline and was never started."""


class ToolError(Exception):
    """Raised by a tool's work for a failure inside the contract; the message is for the model."""


class ServiceError(Exception):
    """Raised by a tool's work where a service behind it failed; the message holds no key and no
    query.
    """


def deadline(context: ServerRequestContext, timeout: float) -> float:
    """The point on ``time.monotonic`` at which this call must have ended. Raises MCPError."""
    return time.monotonic() + allowed(context, timeout)


def allowed(context: ServerRequestContext, timeout: float) -> float:
    """Seconds this call may take: the caller's or ours, the fewer, 0 where none are left.

    Raises MCPError (invalid params) when the caller's value is not a number.
    """
    asked = (context.meta or {}).get(REMAINING_S)
    if asked is None:
        return timeout
    if isinstance(asked, bool) or not isinstance(asked, (int, float)) or not math.isfinite(asked):
        raise MCPError(
            INVALID_PARAMS, f"_meta {REMAINING_S!r} must be a number of seconds, not {asked!r}"
        )
    return min(max(0.0, float(asked)), timeout)


def tool_meta(
    notes: str, cacheable: bool, fingerprint: str = "", keeps_state: bool = False
) -> dict[str, Any]:
    """The ``_meta`` of a listed tool."""
    return {NOTES: notes, CACHEABLE: cacheable, FINGERPRINT: fingerprint, KEEPS_STATE: keeps_state}


def text_result(text: str) -> CallToolResult:
    """A result for the model to read."""
    return CallToolResult(content=[TextContent(type="text", text=text)])


def error_result(text: str) -> CallToolResult:
    """A failure inside the contract, for the model to read and act on."""
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


def server_error(text: str) -> MCPError:
    """A failure of the server itself: raise it."""
    return MCPError(INTERNAL_ERROR, text)


async def run(
    tool: str,
    context: ServerRequestContext,
    timeout: float,
    slots: anyio.CapacityLimiter,
    work: Callable[[float], Awaitable[str | CallToolResult]],
) -> CallToolResult:
    """One call from its deadline to its result and its line in the log.

    ``work`` gets the point on ``time.monotonic`` at which it is cancelled, and returns a text or a
    result. It waits for one of ``slots`` first. Where the caller's time ran out, the result says
    so; where ours did, a service was too slow, and that is an error of the server. Raises MCPError.
    """
    begin = time.monotonic()
    left, started, status = allowed(context, timeout), False, "fault"
    try:
        if left == 0:
            status = "timeout"
            return error_result("The call was stopped: no time was left to start it.")
        with anyio.fail_after(left):
            async with slots:
                started = True
                done = await work(begin + left)
        result = text_result(done) if isinstance(done, str) else done
        status = "failed" if result.is_error else "ok"
        return result
    except ToolError as error:
        status = "failed"
        return error_result(str(error))
    except ServiceError as error:
        raise server_error(f"{tool}: {error}") from error
    except TimeoutError:
        status = "timeout" if started else "busy"
        if not started:
            raise MCPError(
                SERVER_BUSY, f"{tool}: all {slots.total_tokens} slots were busy until the deadline"
            ) from None
        if left >= timeout:
            raise server_error(f"{tool}: no result within the server's {timeout:g} s") from None
        return error_result(f"The call was stopped: no result within {left:.1f} s.")
    finally:
        took = round(time.monotonic() - begin, 4)
        log.info("call", extra={"tool": tool, "status": status, "seconds": took})
