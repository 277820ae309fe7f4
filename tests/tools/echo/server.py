"""A small MCP server for the tests, made with the official SDK and run as a real process.

It follows the contract of embedded servers (``--port``, ``--exit-with-parent``, the listening line,
``/healthz``). ``--legacy`` makes it refuse what an older server does not know; ``--sessions`` makes
it keep sessions, ``--sse`` answer with event streams. ``--journal`` names a file that gets a line
for every text that echo or note was called with.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import signal
import socket
import sys

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from starlette.responses import JSONResponse, PlainTextResponse

PR_SET_PDEATHSIG = 1
STATE = {"running": 0, "most": 0, "calls": 0, "cancelled": 0, "journal": ""}
server = MCPServer("echo")


@server.tool(
    meta={"agentflow/notes": "Say something short.", "agentflow/cacheable": True},
    structured_output=False,
)
async def echo(text: str, times: int = 1) -> str:
    """Give the text back."""
    STATE["calls"] += 1
    journal(text)
    return text * times


@server.tool(annotations=ToolAnnotations(read_only_hint=False), structured_output=False)
async def note(text: str, seconds: float) -> str:
    """Write the text down, then sleep."""
    journal(text)
    await asyncio.sleep(seconds)
    return text


@server.tool(structured_output=False)
async def Slow_Tool(seconds: float, ctx: Context) -> str:
    """Sleep, at most as long as the request allows."""
    STATE["calls"] += 1
    STATE["running"] += 1
    STATE["most"] = max(STATE["most"], STATE["running"])
    allowed = _remaining(ctx)
    try:
        await asyncio.sleep(min(seconds, allowed))
    except asyncio.CancelledError:
        STATE["cancelled"] += 1
        raise
    finally:
        STATE["running"] -= 1
    if seconds > allowed:
        raise ValueError("over the limit")
    return "slept"


@server.tool(structured_output=False)
async def remaining(ctx: Context) -> str:
    """The seconds left that came with the request."""
    return str(_remaining(ctx))


@server.tool(structured_output=False)
async def fail(reason: str) -> str:
    """Fail inside the contract."""
    raise ToolError(reason)


@server.tool(structured_output=False)
async def die() -> str:
    """Kill this server in the middle of the call."""
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


@server.tool(structured_output=False)
async def environment() -> str:
    """The names of the environment variables this server sees."""
    return json.dumps(sorted(os.environ))


def journal(text: str) -> None:
    if STATE["journal"]:
        with open(STATE["journal"], "a") as lines:
            lines.write(text[:100] + "\n")


def _remaining(ctx: Context) -> float:
    meta = ctx.request_context.meta or {}
    return float(meta.get("agentflow/remaining_s", 3600))


async def _healthz(request):
    return PlainTextResponse("ok")


async def _state(request):
    answer = JSONResponse(STATE)
    STATE["most"] = STATE["running"]
    return answer


def only_legacy(app):
    """What a server of an older SDK does with a protocol version that it does not know."""

    async def wrapped(scope, receive, send):
        headers = dict(scope.get("headers") or ())
        if headers.get(b"mcp-protocol-version") == b"2026-07-28":
            return await PlainTextResponse("Bad Request: Unsupported protocol version", 400)(
                scope, receive, send
            )
        return await app(scope, receive, send)

    return wrapped


def exit_with_parent() -> None:
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--exit-with-parent", action="store_true")
    parser.add_argument("--legacy", action="store_true")
    parser.add_argument("--sessions", action="store_true")
    parser.add_argument("--sse", action="store_true")
    parser.add_argument("--say", default="")
    parser.add_argument("--journal", default="")
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument(
        "--helper", action="store_true", help="leave a grandchild in the process group"
    )
    args = parser.parse_args()
    if args.exit_with_parent:
        exit_with_parent()
    STATE["journal"] = args.journal
    if args.say:
        print(args.say, file=sys.stderr, flush=True)
    if args.helper and os.fork() == 0:
        signal.pause()
    app = server.streamable_http_app(stateless_http=not args.sessions, json_response=not args.sse)
    app.add_route("/healthz", _healthz)
    app.add_route("/state", _state)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", args.port))
    config = uvicorn.Config(only_legacy(app) if args.legacy else app, log_level="warning")
    instance = uvicorn.Server(config)
    if args.ignore_sigterm:
        instance.handle_exit = lambda *_: None
    print(json.dumps({"event": "listening", "port": listener.getsockname()[1]}), flush=True)
    instance.run(sockets=[listener])


if __name__ == "__main__":
    main()
