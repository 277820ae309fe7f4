"""HTTP sessions of this process, and what happens when a kept connection turns out to be closed.

A server that restarts, or drops an idle connection, leaves a connection in the pool that looks
usable until something is sent on it. RFC 9110 (section 9.2.2) lets a client repeat only what is
safe to repeat, so there are two kinds of session: one keeps connections and is for requests that
may be sent again; the other opens a connection for each request, so that a request which must not
run twice never meets a stale one.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import aiohttp

# Shorter than uvicorn's 5 s, or many requests would meet a connection that is being closed.
KEEP_ALIVE_S = 4


@dataclass
class _Connection:
    """What is known of the connection that a request was sent on."""

    reused: bool = False


def new_session() -> aiohttp.ClientSession:
    """A session that keeps connections. Needs a running event loop; the caller closes it."""
    # No limit: aiohttp's 100 connections would be a second, hidden limit below the configured
    # slots.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_note_reuse)
    return _without_cookies(connector, [trace])


def new_single_use_session() -> aiohttp.ClientSession:
    """A session that opens a connection for each request. The caller closes it."""
    return _without_cookies(aiohttp.TCPConnector(limit=0, force_close=True), [])


@asynccontextmanager
async def post(
    session: aiohttp.ClientSession, url: str, timeout_s: float, **options: Any
) -> AsyncIterator[aiohttp.ClientResponse]:
    """``session.post`` that is sent again where a kept connection was closed before any answer.

    Only for requests that may be repeated, unless ``session`` is a single-use one. A session that
    was not made here tells nothing about its connections: with it nothing is sent again. Raises
    what aiohttp raises; ``asyncio.TimeoutError`` after ``timeout_s`` seconds.
    """
    # aiohttp rounds timeouts above ceil_threshold up to whole seconds; a deadline is exact.
    timeout = aiohttp.ClientTimeout(total=timeout_s, ceil_threshold=math.inf)
    while True:
        connection = _Connection()
        try:
            response = await session.post(
                url, timeout=timeout, trace_request_ctx=connection, **options
            )
            break
        # A subclass of ClientOSError that means that nothing was sent, on a new connection: the
        # pool of servers decides what to do about it.
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            # Each turn removes one closed connection from the pool, so this ends.
            if not connection.reused:
                raise
    async with response:
        yield response


async def _note_reuse(
    session: aiohttp.ClientSession,
    context: SimpleNamespace,
    params: aiohttp.TraceConnectionReuseconnParams,
) -> None:
    if isinstance(context.trace_request_ctx, _Connection):
        context.trace_request_ctx.reused = True


def _without_cookies(
    connector: aiohttp.TCPConnector, traces: list[aiohttp.TraceConfig]
) -> aiohttp.ClientSession:
    # No cookies: nothing of one call may reach another.
    return aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trace_configs=traces
    )
