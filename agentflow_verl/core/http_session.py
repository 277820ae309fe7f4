"""HTTP sessions of this process, and what happens when a kept connection turns out to be closed.

A server that restarts, or drops an idle connection, leaves a connection in the pool that looks
usable until something is sent on it. RFC 9110 (section 9.2.2) lets a client repeat only what is
safe to repeat, so there are two kinds of session: one keeps connections and is for requests that
may be sent again; the other opens a connection for each request, so that a request which must not
run twice never meets a stale one.
"""

from __future__ import annotations

import math
import weakref
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.tracing import Trace

# Shorter than uvicorn's 5 s, or many requests would meet a connection that is being closed.
KEEP_ALIVE_S = 4

# Of the task's latest request: whether it was sent on a kept connection.
_reused: ContextVar[bool] = ContextVar("reused", default=False)


class _KeepingConnector(aiohttp.TCPConnector):
    """Keeps connections, and notes in ``_reused`` which request gets a kept one.

    A TraceConfig would tell the same for a fifth of a request's cost: with one in a session aiohttp
    awaits a signal at each step of each request.
    """

    def __init__(self) -> None:
        # No limit: aiohttp's 100 connections would be a second, hidden limit below the configured
        # slots.
        super().__init__(limit=0, keepalive_timeout=KEEP_ALIVE_S)
        self._lent = weakref.WeakSet[ResponseHandler]()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        connection = await super().connect(req, traces, timeout)
        protocol = connection.protocol
        if protocol in self._lent:
            _reused.set(True)
        elif protocol is not None:
            self._lent.add(protocol)
        return connection


def new_session() -> aiohttp.ClientSession:
    """A session that keeps connections. Needs a running event loop; the caller closes it."""
    return _without_cookies(_KeepingConnector())


def new_single_use_session() -> aiohttp.ClientSession:
    """A session that opens a connection for each request. The caller closes it."""
    return _without_cookies(aiohttp.TCPConnector(limit=0, force_close=True))


async def post(
    session: aiohttp.ClientSession, url: str, timeout_s: float, **options: Any
) -> aiohttp.ClientResponse:
    """``await session.post``, sent again where a kept connection was closed before any answer.

    Only for requests that may be repeated, unless ``session`` is a single-use one. A session that
    was not made here tells nothing about its connections: with it nothing is sent again. Raises
    what aiohttp raises; ``asyncio.TimeoutError`` after ``timeout_s`` seconds. The caller leaves the
    response by ``async with``.
    """
    # aiohttp rounds timeouts above ceil_threshold up to whole seconds; a deadline is exact.
    timeout = aiohttp.ClientTimeout(total=timeout_s, ceil_threshold=math.inf)
    while True:
        _reused.set(False)
        try:
            return await session.post(url, timeout=timeout, **options)
        # A subclass of ClientOSError that means that nothing was sent, on a new connection: the
        # pool of servers decides what to do about it.
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            # Each turn removes one closed connection from the pool, so this ends.
            if not _reused.get():
                raise


def _without_cookies(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    # No cookies: nothing of one call may reach another.
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
