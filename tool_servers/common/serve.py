"""The HTTP application of a tool server: MCP at /mcp, /healthz, /metrics, one line when it listens,
a prompt end.
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
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tool_servers.common import access, lifetime, logs, metrics, options, sockets

GRACE_S = 1
"""Seconds open connections get to finish once the server was told to end."""


class Mcp(Protocol):
    """The official SDK's server, high or low level."""

    name: str
    middleware: list[Any]

    def streamable_http_app(self, **options: Any) -> ASGIApp: ...

    async def list_tools(self) -> list[Any]: ...


async def nothing_to_close() -> None:
    """For servers that start nothing of their own."""


@dataclass(frozen=True)
class Ready:
    """A server that could be made: what it serves, says of itself, and awaits at its end."""

    mcp: Mcp
    facts: Mapping[str, object] = field(default_factory=dict)
    close: Callable[[], Awaitable[None]] = nothing_to_close


def start(name: str, given: argparse.Namespace, make: Callable[[], Ready]) -> None:
    """The life of a server after its command line. Exits with 2 and one line when it cannot start."""
    logs.configure()
    try:
        if given.exit_with_parent is not None:
            lifetime.end_with_parent(given.exit_with_parent)
        ready = make()
        asyncio.run(serve(ready.mcp, given.host, given.port, ready.facts, ready.close))
    except (options.WrongInput, lifetime.ParentGone, OSError) as error:
        refuse(name, str(error), 2)


class Front:
    """What every request meets first: access, then health and metrics, then MCP."""

    def __init__(self, app: ASGIApp, access: access.Access, health: Mapping[str, object]) -> None:
        self._app = app
        self._access = access
        self._health = health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._answer(scope) if scope["type"] == "http" else None
        await (answer or self._app)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response | None:
        if refusal := self._access.refusal(scope):
            return refusal
        if scope["method"] in ("GET", "HEAD"):
            if scope["path"] == "/healthz":
                return JSONResponse(self._health)
            if scope["path"] == "/metrics":
                return metrics.page()
        return None


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


async def serve(
    mcp: Mcp,
    host: str,
    port: int,
    facts: Mapping[str, object],
    close: Callable[[], Awaitable[None]] = nothing_to_close,
) -> None:
    """Serve until SIGTERM or SIGINT. ``facts`` go into the health answer and the listening line.

    ``close`` is awaited first when the end begins, so that calls still running can finish at once.
    Raises OSError when the address cannot be bound.
    """
    try:
        may_speak = access.from_environment()
    except access.AccessError as error:
        refuse(mcp.name, str(error), 2)
    listener = sockets.listener(host, port)
    line = {
        "event": "listening",
        "server": mcp.name,
        "port": listener.getsockname()[1],
        "pid": os.getpid(),
        **facts,
    }
    mcp.middleware.append(metrics.measure(frozenset(tool.name for tool in await mcp.list_tools())))
    metrics.info.labels(mcp.name).set(1)
    # Host and Origin are checked in Front, for every path and not for MCP's alone
    trusting = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = mcp.streamable_http_app(
        stateless_http=True, json_response=True, host=host, transport_security=trusting
    )
    config = uvicorn.Config(
        Front(app, may_speak, {"status": "ok", "server": mcp.name, **facts}),
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
        await close()
        server.should_exit = True

    ender = asyncio.ensure_future(end())
    try:
        await server.serve(sockets=[listener])
    finally:
        ender.cancel()
        await close()


def refuse(server: str, reason: str, code: int) -> NoReturn:
    """End with one clear line on standard error: code 2 for a wrong input, 3 for an isolation that
    was not reached.
    """
    sys.stderr.write(f"{server}: {reason}\n")
    raise SystemExit(code)


def write_line(line: Mapping[str, object]) -> None:
    """One JSON object on standard output, at once."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
