"""Servers that do not know protocol 2026-07-28 yet are tools like any other."""

from __future__ import annotations

import asyncio

import pytest

from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import OutOfTime
from agentflow_verl.tools.mcp import client as mcp_client
from agentflow_verl.tools.toolbox import ToolBox
from tests.tools.servers import echo_process, soon, wait_until

KINDS = {
    "stateless, JSON": ("--legacy",),
    "sessions, event streams": ("--legacy", "--sessions", "--sse"),
    "new, event streams": ("--sse",),
}


@pytest.mark.parametrize("args", KINDS.values(), ids=KINDS)
async def test_tools_are_listed_called_and_cancelled(args, monkeypatch):
    monkeypatch.setattr(mcp_client, "GRACE_S", 20.0)  # for the answer of a busy machine
    with echo_process(*args) as server:
        async with await ToolBox.open([ToolConfig(name="old", urls=(server.url,))]) as tools:
            assert tools.resolve("echo").notes == "Say something short."
            assert (await tools.call("echo", {"text": "ä"}, soon())).text == "ä"
            assert (await tools.call("fail", {"reason": "no"}, soon())).is_error
            assert float((await tools.call("remaining", {}, soon(9))).text) <= 9
            with pytest.raises(OutOfTime):
                await tools.call("Slow_Tool", {"seconds": 60}, Deadline.after(0.4))
            await asyncio.to_thread(
                wait_until, lambda: server.state()["running"] == 0, "the server gave up too"
            )


async def test_a_session_that_the_server_lost_is_started_anew():
    with echo_process("--legacy", "--sessions") as server:
        async with await ToolBox.open([ToolConfig(name="old", urls=(server.url,))]) as tools:
            server.kill()
            with echo_process("--legacy", "--sessions", port=server.port):
                await asyncio.sleep(0.1)  # the old connection is noticed to be closed
                result = await tools.call("echo", {"text": "again"}, soon())
            assert (result.text, result.attempts) == ("again", 2)


async def test_a_cancelled_call_is_cancelled_at_an_older_server():
    with echo_process("--legacy", "--sessions", "--sse") as server:
        async with await ToolBox.open([ToolConfig(name="old", urls=(server.url,))]) as tools:
            call = asyncio.ensure_future(tools.call("Slow_Tool", {"seconds": 60}, soon(60)))
            await asyncio.to_thread(
                wait_until, lambda: server.state()["running"] == 1, "the call arrives"
            )
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await asyncio.to_thread(
                wait_until, lambda: server.state()["cancelled"] == 1, "the tool is cancelled"
            )
