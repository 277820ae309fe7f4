"""``python -m tool_servers.stdio [OPTIONS] -- COMMAND [ARGUMENT…]``"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.shared.exceptions import MCPError
from mcp_types import Tool

from tool_servers.common import access, calls, lifetime, logs, options, serve, sockets
from tool_servers.common.workers import METRICS_FOLDER
from tool_servers.stdio.bridge import Bridge, ended, tools_of

NAME = "stdio"
ENDED = 1
LOOK_EVERY_S = 2.0
START_S = 60.0
KEPT_BACK = (access.TOKEN, sockets.INHERITED, METRICS_FOLDER)
"""Variables of this server that are none of the other's business."""


class CannotStart(Exception):
    """The other server did not come up, or lacks a tool. The message says why."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line entry. Exits with 2 and one line when an option is wrong or the other server does not start, with
    1 when it ended later."""
    parser = options.parser(NAME, "Serve an MCP server that speaks over standard input and output.", timeout=30.0)
    parser.add_argument("--name", help="what to call it (default: the command's name)")
    parser.add_argument(
        "--tool", action="append", default=[], metavar="NAME", help="show this tool only; may be repeated (default: all)"
    )
    parser.add_argument("--notes", default="", metavar="TEXT", help="limitations and best practices, for prompts")
    parser.add_argument("--pure", action="store_true", help="equal arguments give equal results: they may be cached")
    parser.add_argument(
        "--concurrency", type=options.integer(1, 10_000), default=16, help="calls at once (default: %(default)s)"
    )
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="the other server's program and its arguments")
    given = parser.parse_args(arguments)
    logs.configure()
    name = given.name or Path(given.command[0]).name
    try:
        if given.exit_with_parent is not None:
            lifetime.end_with_parent(given.exit_with_parent)
        asyncio.run(_serve(name, given))
    except (lifetime.ParentGone, CannotStart, OSError) as error:
        serve.refuse(name, str(error), 2)


async def _serve(name: str, given: argparse.Namespace) -> None:
    line = ["-m", "tool_servers.stdio.child", str(os.getpid()), *given.command]
    environment = {key: value for key, value in os.environ.items() if key not in KEPT_BACK}
    parameters = StdioServerParameters(command=sys.executable, args=line, env=environment)
    async with contextlib.AsyncExitStack() as stack:
        try:
            patience = max(START_S, given.timeout)
            client = await stack.enter_async_context(Client(parameters, read_timeout_seconds=patience))
            tools = _chosen(await tools_of(client), given)
        except (MCPError, OSError) as error:
            raise CannotStart(f"{given.command[0]} did not start as an MCP server: {error}") from None
        bridge = Bridge(name, client, tools, given.timeout, given.concurrency)
        serving = asyncio.ensure_future(serve.serve(bridge, given.host, given.port, {"tools": len(tools)}))
        watching = asyncio.ensure_future(ended(client, LOOK_EVERY_S))
        await asyncio.wait({serving, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            serve.refuse(name, f"{given.command[0]} has ended", ENDED)
        watching.cancel()
        await serving


def _chosen(tools: list[Tool], given: argparse.Namespace) -> list[Tool]:
    """The tools to show, with the notes of the command line. Raises CannotStart where one is missing."""
    missing = set(given.tool) - {tool.name for tool in tools}
    if missing or not tools:
        listed = ", ".join(tool.name for tool in tools) or "none"
        raise CannotStart(f"it lacks the tool {', '.join(sorted(missing)) or 'that it is wanted for'}; its tools are {listed}")
    shown = [tool for tool in tools if not given.tool or tool.name in given.tool]
    return [tool.model_copy(update={"meta": {**(tool.meta or {}), **calls.meta(given.notes, given.pure)}}) for tool in shown]
