"""The HTTP application of a tool server: MCP at /mcp, /healthz and /metrics, one line on standard
output when it listens, a prompt end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

import uvicorn
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import Tool
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tool_servers.common import access, lifetime, logs, metrics, options, sockets
from tool_servers.common.connections import LimitedProtocol, connection_limit

GRACE_S = 1
"""Seconds open connections get to finish once the server was told to end."""
WRONG_INPUT = 2
"""Exit code for an option, file, key or address with which a server cannot start."""


class McpServer(Protocol):
    """A server of the official SDK that lists its tools."""

    @property
    def name(self) -> str: ...

    @property
    def middleware(self) -> list[Any]: ...

    @property
    def streamable_http_app(self) -> Callable[..., ASGIApp]: ...

    async def list_tools(self) -> list[Tool]: ...


async def close_nothing() -> None:
    """For servers that start nothing of their own."""


def always_healthy() -> str | None:
    """For servers that have no part that can fail alone."""
    return None


@dataclass(frozen=True)
class Ready:
    """A server that could be made, to be served."""

    mcp: McpServer
    facts: Mapping[str, object] = field(default_factory=dict)
    """Go into the health answer and the listening line."""
    close: Callable[[], Awaitable[None]] = close_nothing
    """Awaited first when the end begins, so that calls still running can finish at once."""
    ailment: Callable[[], str | None] = always_healthy
    """Why the server cannot answer calls, None where it can: ``/healthz`` is 503 then."""


def start(name: str, given: argparse.Namespace, make: Callable[[], Ready]) -> None:
    """Make a server and serve it until it is told to end. Exits with 2 and one line when it cannot
    start.
    """
    logs.configure()
    try:
        if given.exit_with_parent is not None:
            lifetime.end_with_parent(given.exit_with_parent)
        asyncio.run(serve(make(), given.host, given.port))
    except (options.WrongInput, lifetime.ParentGone, OSError) as error:
        exit_with(name, str(error), WRONG_INPUT)


class FrontMiddleware:
    """What every request meets first: the access check, then health and metrics, then MCP."""

    def __init__(self, app: ASGIApp, access: access.Access, ready: Ready) -> None:
        self._app = app
        self._access = access
        self._ready = ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = None
        if scope["type"] == "http":
            answer = self._answer(scope)
        await (answer or self._app)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response | None:
        if refusal := self._access.refusal(scope):
            return refusal
        if scope["method"] in ("GET", "HEAD"):
            if scope["path"] == "/healthz":
                return self._health()
            if scope["path"] == "/metrics":
                return metrics.page()
        return None

    def _health(self) -> Response:
        facts = {"server": self._ready.mcp.name, **self._ready.facts}
        ailment = self._ready.ailment()
        if ailment is None:
            return JSONResponse({"status": "ok", **facts})
        return JSONResponse({"status": "failing", "reason": ailment, **facts}, 503)


class _Server(uvicorn.Server):
    """uvicorn, with the signals left to ``serve`` and a line on standard output once it listens."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._announce()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(ready: Ready, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT. Raises OSError when the address cannot be bound."""
    mcp = ready.mcp
    try:
        checked_access = access.access_from_environment()
    except access.AccessError as error:
        exit_with(mcp.name, str(error), WRONG_INPUT)
    LimitedProtocol.most_connections = connection_limit()
    listener = sockets.listener(host, port)
    line = {
        "event": "listening",
        "server": mcp.name,
        "port": listener.getsockname()[1],
        "pid": os.getpid(),
        **ready.facts,
    }
    names = {tool.name for tool in await mcp.list_tools()}
    mcp.middleware.append(metrics.measure(names))
    metrics.info.labels(mcp.name).set(1)
    # the SDK's own check is off: FrontMiddleware checks Host and Origin, and for every path
    unchecked = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = mcp.streamable_http_app(
        stateless_http=True, json_response=True, host=host, transport_security=unchecked
    )
    config = uvicorn.Config(
        FrontMiddleware(app, checked_access, ready),
        http=LimitedProtocol,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # callers are believed nothing about where they come from
        ws="none",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _Server(config, lambda: write_line(line))
    ending = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, ending.set)

    async def end() -> None:
        await ending.wait()
        await ready.close()
        server.should_exit = True

    ender = asyncio.ensure_future(end())
    try:
        await server.serve(sockets=[listener])
    finally:
        ender.cancel()
        await ready.close()


def exit_with(server: str, reason: str, code: int) -> NoReturn:
    """End the process with one line on standard error: code 2 for a wrong input, 3 for an isolation
    that was not reached.
    """
    sys.stderr.write(f"{server}: {reason}\n")
    raise SystemExit(code)


def write_line(line: Mapping[str, object]) -> None:
    """Write one JSON object to standard output, at once."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
