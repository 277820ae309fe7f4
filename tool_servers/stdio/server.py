"""``python -m tool_servers.stdio [OPTIONS] -- COMMAND [ARGUMENT…]``"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp_types import Tool

from tool_servers.common import access, calls, lifetime, logs, options, serve, sockets
from tool_servers.common.workers import METRICS_FOLDER
from tool_servers.stdio.bridge import Bridge, ended, tools_of

NAME = "stdio"
ENDED, WRONG_INPUT = 1, 2
LOOK_EVERY_S = 2.0
START_S = 60.0
KEPT_BACK = (access.TOKEN, sockets.INHERITED, METRICS_FOLDER)
"""Variables of this server that are none of the other's business."""


class CannotStart(Exception):
    """The other server lacks a tool. The message says why."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line entry. Exits with 2 and one line when an option is wrong or the other server
    does not start, with 1 when it ended later."""
    parser = options.parser(
        NAME, "Serve an MCP server that speaks over standard input and output.", timeout=30.0
    )
    parser.add_argument("--name", help="what to call it (default: the command's name)")
    parser.add_argument(
        "--tool",
        action="append",
        default=[],
        metavar="NAME",
        help="show this tool only; may be repeated (default: all)",
    )
    parser.add_argument(
        "--notes", default="", metavar="TEXT", help="limitations and best practices, for prompts"
    )
    parser.add_argument(
        "--cacheable",
        action="store_true",
        help="equal arguments give equal results: they may be cached",
    )
    parser.add_argument(
        "--concurrency",
        type=options.integer(1, 10_000),
        default=16,
        help="calls at once (default: %(default)s)",
    )
    parser.add_argument(
        "command", nargs="+", metavar="COMMAND", help="the other server's program and its arguments"
    )
    given = parser.parse_args(arguments)
    logs.configure()
    name = given.name or Path(given.command[0]).name
    try:
        if given.exit_with_parent is not None:
            lifetime.end_with_parent(given.exit_with_parent)
        code, reason = asyncio.run(_serve(name, given))
    except (lifetime.ParentGone, OSError) as error:
        code, reason = WRONG_INPUT, str(error)
    if code:
        serve.refuse(name, reason, code)


async def _serve(name: str, given: argparse.Namespace) -> tuple[int, str]:
    """Exit code and reason, an empty one where it was told to end."""
    line = ["-m", "tool_servers.stdio.child", str(os.getpid()), *given.command]
    environment = {key: value for key, value in os.environ.items() if key not in KEPT_BACK}
    other = StdioServerParameters(command=sys.executable, args=line, env=environment)
    try:
        async with Client(other, read_timeout_seconds=max(START_S, given.timeout)) as client:
            try:
                tools = _chosen(await tools_of(client), given)
            except CannotStart as error:
                return WRONG_INPUT, str(error)
            return await _until_either_ends(
                Bridge(name, client, tools, given.timeout, given.concurrency), client, given
            )
    except Exception as error:  # the SDK's task groups wrap whatever went wrong
        return (
            WRONG_INPUT,
            f"{given.command[0]} did not start as an MCP server: {_innermost(error)}",
        )


async def _until_either_ends(
    bridge: Bridge, client: Client, given: argparse.Namespace
) -> tuple[int, str]:
    facts = {"tools": len(await bridge.list_tools())}
    serving = asyncio.ensure_future(serve.serve(bridge, given.host, given.port, facts))
    watching = asyncio.ensure_future(ended(client, LOOK_EVERY_S))
    await asyncio.wait({serving, watching}, return_when=asyncio.FIRST_COMPLETED)
    gone = not serving.done()
    for task in (serving, watching):
        task.cancel()
    await asyncio.wait({serving, watching})
    if gone:
        return ENDED, f"{given.command[0]} has ended"
    return (WRONG_INPUT, str(serving.exception())) if serving.exception() else (0, "")


def _innermost(error: BaseException) -> BaseException:
    while inner := getattr(error, "exceptions", None):
        error = inner[0]
    return error


def _chosen(tools: list[Tool], given: argparse.Namespace) -> list[Tool]:
    """The tools to show, with the notes of the command line. Raises CannotStart where one is
    missing.
    """
    missing = set(given.tool) - {tool.name for tool in tools}
    if missing or not tools:
        listed = ", ".join(tool.name for tool in tools) or "none"
        raise CannotStart(
            f"it lacks the tool {', '.join(sorted(missing)) or 'that it is wanted for'}; its tools"
            f" are {listed}"
        )
    shown = [tool for tool in tools if not given.tool or tool.name in given.tool]
    return [
        tool.model_copy(
            update={"meta": {**(tool.meta or {}), **calls.tool_meta(given.notes, given.cacheable)}}
        )
        for tool in shown
    ]
