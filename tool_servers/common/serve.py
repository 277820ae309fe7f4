"""The HTTP application of a tool server: MCP at /mcp, health at /healthz, one line when it listens, a prompt end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import NoReturn

import uvicorn
from mcp.server.mcpserver import MCPServer
from starlette.requests import Request
from starlette.responses import JSONResponse

GRACE_S = 1
"""Seconds open connections get to finish once the server was told to end."""


async def nothing_to_close() -> None:
    """For servers that start nothing of their own."""


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
    mcp: MCPServer,
    host: str,
    port: int,
    facts: Mapping[str, object],
    close: Callable[[], Awaitable[None]] = nothing_to_close,
) -> None:
    """Serve until SIGTERM or SIGINT. ``facts`` go into the health answer and the listening line.

    ``close`` is awaited first when the end begins, so that calls still running can finish at once.
    Raises OSError when the address cannot be bound.
    """

    @mcp.custom_route("/healthz", methods=["GET"])
    async def healthz(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "server": mcp.name, **facts})

    listener = _bind(host, port)
    line = {"event": "listening", "server": mcp.name, "port": listener.getsockname()[1], "pid": os.getpid(), **facts}
    app = mcp.streamable_http_app(stateless_http=True, json_response=True, host=host)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, timeout_keep_alive=75, timeout_graceful_shutdown=GRACE_S
    )
    server = _Server(config, lambda: _write_line(line))
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
    """End with one clear line on standard error: code 2 for a wrong input, 3 for an isolation that was not reached."""
    sys.stderr.write(f"{server}: {reason}\n")
    raise SystemExit(code)


def _bind(host: str, port: int) -> socket.socket:
    # asyncio turns Nagle off (40 ms a reply) only where the protocol is given by name
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def _write_line(line: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
