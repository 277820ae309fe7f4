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

from tool_servers.common.text import replace_surrogates

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
KEEPS_DEADLINE = "agentflow/keeps_deadline"
"""Key in a tool's ``_meta``: true where a call is answered within ``REMAINING_S``."""
KEEPS_STATE = "agentflow/keeps_state"
"""Key in a tool's ``_meta``: true where calls that name their trajectory find what its earlier ones
left.
"""
SERVER_BUSY = -32_050
"""JSON-RPC error code: the call waited for a free slot until its deadline and was never started."""


class ToolError(Exception):
    """A failure inside the tool's contract; the message is for the model."""


class ServiceError(Exception):
    """A service behind the tool failed; the message holds no key and no query."""


def deadline(context: ServerRequestContext[Any], timeout: float) -> float:
    """The point on ``time.monotonic`` at which this call must have ended. Raises MCPError."""
    return time.monotonic() + allowed_seconds(context, timeout)


def allowed_seconds(context: ServerRequestContext[Any], timeout: float) -> float:
    """Seconds this call may take: what the caller has left, at most ``timeout``, at least 0.

    Raises MCPError (invalid params) when the caller's value is not a number.
    """
    asked: Any = (context.meta or {}).get(REMAINING_S)
    if asked is None:
        return timeout
    is_number = isinstance(asked, (int, float)) and not isinstance(asked, bool)
    # not math.isfinite: an integer of JSON can be too large for a float
    if not is_number or asked != asked or asked in (math.inf, -math.inf):
        raise MCPError(
            INVALID_PARAMS, f"_meta {REMAINING_S!r} must be a number of seconds, not {asked!r:.100}"
        )
    return float(max(0, min(asked, timeout)))


def tool_meta(
    notes: str, cacheable: bool, fingerprint: str = "", keeps_state: bool = False
) -> dict[str, Any]:
    """The ``_meta`` of a listed tool."""
    return {
        NOTES: notes,
        CACHEABLE: cacheable,
        FINGERPRINT: fingerprint,
        KEEPS_STATE: keeps_state,
        KEEPS_DEADLINE: True,  # ``run`` answers by then, whatever the work does
    }


def text_result(text: str) -> CallToolResult:
    """A result for the model to read."""
    return CallToolResult(content=[TextContent(type="text", text=replace_surrogates(text))])


def error_result(text: str) -> CallToolResult:
    """A failure inside the contract, for the model to read and act on."""
    return text_result(text).model_copy(update={"is_error": True})


def server_error(text: str) -> MCPError:
    """A failure of the server itself: raise it."""
    return MCPError(INTERNAL_ERROR, replace_surrogates(text))


async def run(
    tool: str,
    context: ServerRequestContext[Any],
    timeout: float,
    slots: anyio.CapacityLimiter,
    work: Callable[[float], Awaitable[str | CallToolResult]],
) -> CallToolResult:
    """Run one call within its deadline, log it and return its result.

    It waits for one of ``slots`` first. ``work`` gets the point on ``time.monotonic`` at which it
    is cancelled, and returns a text or a result. Where the caller's time ran out, the result says
    so; where the server's did, a service was too slow, and that is an error of the server.
    Raises MCPError.
    """
    begin = time.monotonic()
    left, started, status = allowed_seconds(context, timeout), False, "fault"
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
