"""``python -m tool_servers.stdio [OPTIONS] -- COMMAND [ARGUMENT…]``"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mcp.client.client import Client
from mcp_types import Tool

from tool_servers.common import access, calls, lifetime, logs, options, serve, sockets
from tool_servers.common.workers import METRICS_FOLDER
from tool_servers.stdio.bridge import Bridge, Heartbeat, list_all_tools
from tool_servers.stdio.transport import stdio_transport

NAME = "stdio"
ENDED = 1
"""Exit code: the other server has ended."""
ASK_EVERY_S = 2.0
FEWEST_SILENCE_S = 5.0
"""Seconds without an answer after which the other server counts as failing, at least."""
START_S = 60.0
KEPT_BACK = (access.TOKEN, sockets.INHERITED, METRICS_FOLDER)
"""Environment variables of this server that the other does not get."""


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
        "--cwd", default=".", metavar="DIR", help="start the other server in this folder"
    )
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
        code, reason = serve.WRONG_INPUT, str(error)
    if code:
        serve.exit_with(name, reason, code)


async def _serve(name: str, given: argparse.Namespace) -> tuple[int, str]:
    """Exit code and reason, an empty one where it was told to end."""
    start = [sys.executable, "-m", "tool_servers.stdio.child", str(os.getpid()), given.cwd]
    command = [*start, *given.command]
    environment = {key: value for key, value in os.environ.items() if key not in KEPT_BACK}
    other = stdio_transport(command, environment)
    try:
        async with Client(other, read_timeout_seconds=max(START_S, given.timeout)) as client:
            try:
                tools = _select_tools(await list_all_tools(client), given)
            except CannotStart as error:
                return serve.WRONG_INPUT, str(error)
            return await _until_either_ends(
                Bridge(name, client, tools, given.timeout, given.concurrency), client, given
            )
    except Exception as error:  # the SDK's task groups wrap whatever went wrong
        return (
            serve.WRONG_INPUT,
            f"{given.command[0]} did not start as an MCP server: {_innermost(error)}",
        )


async def _until_either_ends(
    bridge: Bridge, client: Client, given: argparse.Namespace
) -> tuple[int, str]:
    heartbeat = Heartbeat(client, ASK_EVERY_S, max(FEWEST_SILENCE_S, given.timeout))
    facts = {"tools": len(await bridge.list_tools())}
    ready = serve.Ready(bridge, facts, ailment=heartbeat.ailment)
    serving = asyncio.ensure_future(serve.serve(ready, given.host, given.port))
    watching = asyncio.ensure_future(heartbeat.run())
    await asyncio.wait({serving, watching}, return_when=asyncio.FIRST_COMPLETED)
    gone = not serving.done()
    for task in (serving, watching):
        task.cancel()
    await asyncio.wait({serving, watching})
    if gone:
        return ENDED, f"{given.command[0]} has ended"
    if error := serving.exception():
        return serve.WRONG_INPUT, str(error)
    return 0, ""


def _innermost(error: BaseException) -> BaseException:
    while inner := getattr(error, "exceptions", None):
        error = inner[0]
    return error


def _select_tools(tools: list[Tool], given: argparse.Namespace) -> list[Tool]:
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
    shown = []
    for tool in tools:
        if not given.tool or tool.name in given.tool:
            meta = {**(tool.meta or {}), **calls.tool_meta(given.notes, given.cacheable)}
            shown.append(tool.model_copy(update={"meta": meta}))
    return shown
