"""A server that speaks over standard input and output, served over HTTP by configuration alone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError

from tests.tool_servers.server_processes import (
    ROOT,
    Running,
    alive,
    call,
    command,
    descendants,
    eventually,
    get,
    metrics,
    text,
)
from tool_servers.common import access, calls

OTHER = (sys.executable, str(Path(__file__).with_name("stdio_server.py")))


async def test_its_tools_are_listed_and_called(launch: Callable[..., Running]) -> None:
    running = launch(
        command(
            "stdio",
            "--tool",
            "add",
            "--tool",
            "fail",
            "--cacheable",
            "--notes",
            "Be kind.",
            "--",
            *OTHER,
        )
    )
    async with Client(f"{running.url}/mcp") as client:
        tools = (await client.list_tools()).tools
    assert [tool.name for tool in tools] == ["add", "fail"]
    assert tools[0].description == "Add two numbers." and set(
        tools[0].input_schema["properties"]
    ) == {"a", "b"}
    assert tools[0].meta[calls.NOTES] == "Be kind." and tools[0].meta[calls.CACHEABLE] is True
    result = await call(running, "add", {"a": 2, "b": 3})
    assert not result.is_error and text(result) == "5"
    failed = await call(running, "fail", {})
    assert failed.is_error and "fail" in text(failed)
    wrong = await call(running, "add", {"a": "two"})
    assert wrong.is_error
    with pytest.raises(MCPError, match="Unknown tool: die"):
        await call(running, "die", {})
    assert metrics(running)['agentflow_tool_calls_total{status="ok",tool="add"}'] == 1


async def test_deadline_cancels_the_call_at_its_source(
    launch: Callable[..., Running], tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    running = launch(command("stdio", "--", *OTHER, str(mark)))
    begin = time.monotonic()
    result = await call(running, "wait", {"seconds": 60}, remaining_s=0.7)
    assert result.is_error and "no result within 0.7 s" in text(result)
    assert time.monotonic() - begin < 8
    assert await asyncio.to_thread(eventually, mark.exists)
    assert text(await call(running, "add", {"a": 1, "b": 1})) == "2"


async def test_it_sees_the_environment_but_not_our_token(launch: Callable[..., Running]) -> None:
    token = "a-token-of-the-tests-0123456789"
    running = launch(
        command("stdio", "--", *OTHER),
        env={**os.environ, access.TOKEN: token, "FOR_THE_OTHER": "1"},
    )
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        body = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "environment", "arguments": {}},
        }
        accept = {"Accept": "application/json, text/event-stream"}
        async with session.post(f"{running.url}/mcp", json=body, headers=accept) as reply:
            seen = await reply.text()
    assert "FOR_THE_OTHER" in seen and access.TOKEN not in seen


async def test_server_whose_other_half_died_ends_too(launch: Callable[..., Running]) -> None:
    running = launch(command("stdio", "--", *OTHER))
    with pytest.raises(MCPError, match="the server behind it failed"):
        await call(running, "die", {})
    assert await asyncio.to_thread(running.process.wait, 15) == 1
    assert "has ended" in running.log.read_text().splitlines()[-1]


async def test_health_is_red_while_the_other_half_does_not_answer(
    launch: Callable[..., Running],
) -> None:
    running = launch(command("stdio", "--timeout", "3", "--", *OTHER))
    assert get(running, "/healthz")[0] == 200
    with pytest.raises(MCPError, match="no result within the server's 3 s"):
        await call(running, "hang", {})

    def is_red() -> bool:
        return get(running, "/healthz")[0] == 503

    assert await asyncio.to_thread(eventually, is_red, 40)
    assert "has not answered for" in str(get(running, "/healthz")[1])


def test_other_half_dies_with_a_bridge_that_is_killed(launch: Callable[..., Running]) -> None:
    running = launch(command("stdio", "--", *OTHER))
    children = descendants(running.pid)
    assert children
    running.process.kill()
    running.process.wait()
    assert eventually(lambda: not alive(children))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (("--", "no-such-program"), "no-such-program did not start as an MCP server"),
        (("--", "true"), "true did not start as an MCP server"),
        (
            ("--tool", "subtract", "--", *OTHER),
            "it lacks the tool subtract; its tools are add, wait",
        ),
        ((), "the following arguments are required: COMMAND"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(line: tuple[str, ...], says: str) -> None:
    ended = subprocess.run(
        command("stdio", *line), cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2 and ended.stdout == ""
    assert says in ended.stderr.splitlines()[-1]
