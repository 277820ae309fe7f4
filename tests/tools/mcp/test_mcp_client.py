"""The client against a real server: results, errors inside the contract, deadlines."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import InfraError, MalformedOutput, OutOfTime
from agentflow_verl.tools.mcp import client as mcp_client
from agentflow_verl.tools.mcp.client import McpClient
from tests.tools.servers import echo_process, soon, wait_until


async def test_tools_are_listed_with_schema_notes_and_purity(client, echo):
    specs = {spec.name: spec for spec in await client.list_tools(echo.url, soon())}
    assert specs["echo"].description == "Give the text back."
    assert specs["echo"].notes == "Say something short."
    assert specs["echo"].cacheable
    assert specs["echo"].parameters["required"] == ["text"]
    assert not specs["fail"].cacheable


async def test_a_call_returns_the_text(client, echo):
    result = await client.call_tool(echo.url, "echo", {"text": "Zürich 🙂", "times": 2}, soon())
    assert (result.text, result.is_error, result.attempts) == ("Zürich 🙂Zürich 🙂", False, 1)


async def test_a_tool_that_fails_in_its_contract_is_a_result(client, echo):
    result = await client.call_tool(echo.url, "fail", {"reason": "no such page"}, soon())
    assert result.is_error
    assert "no such page" in result.text


async def test_arguments_that_only_the_server_refuses_are_a_result(client, echo):
    result = await client.call_tool(echo.url, "echo", {"text": "x", "times": "many"}, soon())
    assert result.is_error
    assert "times" in result.text


async def test_an_unknown_tool_is_a_result_that_says_so(client, echo):
    result = await client.call_tool(echo.url, "teleport", {}, soon())
    assert result.is_error
    assert "teleport" in result.text


async def test_a_reply_beyond_the_size_limit_is_dropped_with_a_word_about_it(client, echo):
    result = await client.call_tool(
        echo.url, "echo", {"text": "0123456789", "times": 5_000_000}, soon()
    )
    assert result.is_error and result.truncated
    assert "larger than 4 MiB" in result.text


async def test_the_time_left_travels_with_the_request(client, echo):
    for deadline, timeout_s, limit in ((soon(7), None, 7), (soon(7), 3, 3), (soon(2), 30, 2)):
        result = await client.call_tool(echo.url, "remaining", {}, deadline, timeout_s)
        assert limit - 1.5 < float(result.text) <= limit


async def test_at_the_deadline_the_call_is_out_of_time_and_the_server_stops_working(client, echo):
    before = time.monotonic()
    with pytest.raises(OutOfTime, match=f"tool Slow_Tool at {echo.url}"):
        await client.call_tool(echo.url, "Slow_Tool", {"seconds": 60}, Deadline.after(0.4))
    assert 0.39 <= time.monotonic() - before < 5
    await asyncio.to_thread(
        wait_until, lambda: echo.state()["running"] == 0, "the server gave up too", 5
    )


async def test_a_deadline_that_has_passed_sends_nothing(client, echo):
    calls = echo.state()["calls"]
    with pytest.raises(OutOfTime):
        await client.call_tool(echo.url, "echo", {"text": "x"}, Deadline.after(0))
    assert echo.state()["calls"] == calls


async def test_the_servers_own_limit_is_an_answer_within_the_contract(client, echo):
    result = await client.call_tool(echo.url, "Slow_Tool", {"seconds": 60}, soon(), timeout_s=0.3)
    assert result.is_error


async def test_a_hung_server_is_an_infra_error_while_time_is_left_and_out_of_time_at_the_deadline(
    monkeypatch,
):
    monkeypatch.setattr(mcp_client, "GRACE_S", 0.2)
    client = McpClient()
    with echo_process() as server:
        await client.call_tool(server.url, "echo", {"text": "x"}, soon())
        server.signal(signal.SIGSTOP)
        with pytest.raises(
            InfraError, match=f"tool echo at {server.url}: no answer within its time limit"
        ):
            await client.call_tool(server.url, "echo", {"text": "x"}, soon(), timeout_s=0.2)
        with pytest.raises(OutOfTime):
            await client.call_tool(
                server.url, "echo", {"text": "x"}, Deadline.after(0.3), timeout_s=20
            )
        server.signal(signal.SIGCONT)
        assert (await client.call_tool(server.url, "echo", {"text": "back"}, soon())).text == "back"
    await client.close()


async def test_a_server_killed_in_the_middle_of_a_call_is_an_infra_error(client):
    with echo_process() as server:
        with pytest.raises(InfraError, match=f"tool die at {server.url}"):
            await client.call_tool(server.url, "die", {}, soon())
        server.process.wait(10)  # its listening socket may close a moment after the connection
        with pytest.raises(InfraError, match=f"tool echo at {server.url}: ClientConnectorError"):
            await client.call_tool(server.url, "echo", {"text": "x"}, soon())


async def test_arguments_that_cannot_be_json_are_malformed(client, echo):
    with pytest.raises(MalformedOutput):
        await client.call_tool(echo.url, "echo", {"text": "\ud800"}, soon())


async def test_many_calls_at_once_get_each_its_own_answer(client, echo):
    results = await asyncio.gather(
        *(
            client.call_tool(echo.url, "echo", {"text": str(number)}, soon())
            for number in range(200)
        )
    )
    assert [result.text for result in results] == [str(number) for number in range(200)]


async def test_a_closed_client_opens_nothing_new(echo):
    client = McpClient()
    await client.list_tools(echo.url, soon())
    await client.close()
    await client.close()
    with pytest.raises(InfraError, match="closed"):
        await client.list_tools(echo.url, soon())
