"""Whatever a broken server sends, the call ends as an ``InfraError`` that names the tool and the URL."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentflow_verl.errors import ConfigError, InfraError
from agentflow_verl.tools import server as server_module
from agentflow_verl.tools.mcp_client import McpClient
from agentflow_verl.tools.registry import ToolBox
from agentflow_verl.tools.spec import ToolConfig

from .faults import (
    a_list,
    another_id,
    bad_blocks,
    close_at_once,
    close_early,
    empty_stream,
    garbage,
    json_rpc_error,
    needs_a_person,
    no_result,
    not_json,
    redirect,
    reset,
    status_429,
    status_500,
    wrong_json,
)
from .servers import FaultyServer, listed_by, send, send_result, soon

FAULTS = {
    garbage: "",
    not_json: "not JSON: <html>nginx</html>",
    wrong_json: "not a JSON-RPC answer",
    no_result: "without a result",
    a_list: "not a JSON-RPC answer",
    another_id: "answer to request 'someone else'",
    bad_blocks: "unreadable result",
    needs_a_person: "input_required",
    json_rpc_error: "JSON-RPC error -32603: Internal error",
    status_500: "HTTP 500: Internal Server Error",
    status_429: "HTTP 429: slow down",
    redirect: "HTTP 307",
    close_at_once: "ServerDisconnectedError",
    reset: "",
    close_early: "ClientPayloadError",
    empty_stream: "ended without an answer",
}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(server_module, "BACKOFF_S", (0.02, 0.02))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_a_broken_answer_is_an_infra_error_with_the_reason(client, faulty, fault):
    faulty.faults = [fault]
    with pytest.raises(InfraError) as caught:
        await client.call_tool(faulty.url, "echo", {}, soon())
    assert str(caught.value).startswith(f"tool echo at {faulty.url}: ")
    assert FAULTS[fault] in str(caught.value)
    assert (await client.call_tool(faulty.url, "echo", {}, soon())).text == "fine"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200), status=st.sampled_from(["200 OK", "400 Bad Request", "503 Busy"]))
def test_no_body_whatsoever_breaks_out_of_the_taxonomy(body, status):
    async def run():
        async def random_body(writer, request_id):
            send(writer, body, status)

        faulty, client = FaultyServer(), McpClient()
        await faulty.start()
        faulty.faults = [random_body]
        try:
            with pytest.raises(InfraError):
                await client.call_tool(faulty.url, "echo", {}, soon())
        finally:
            await client.close()
            await faulty.stop()

    asyncio.run(run())


@pytest.mark.parametrize("announced", [True, False])
async def test_a_reply_without_end_is_not_read_to_its_end(client, faulty, announced):
    async def endless(writer, request_id):
        length = b"Content-Length: 52428800\r\n" if announced else b"Connection: close\r\n"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + length + b"\r\n")
        for _ in range(50):
            writer.write(b"x" * 2**20)
            await writer.drain()

    faulty.faults = [endless]
    result = await client.call_tool(faulty.url, "echo", {}, soon())
    assert result.is_error and result.truncated


async def test_infra_errors_are_retried(faulty, quick):
    faulty.faults = [status_500, close_early]
    async with await ToolBox.open([ToolConfig(name="faulty", urls=(faulty.url,))]) as tools:
        result = await tools.call("echo", {}, soon())
    assert (result.text, result.attempts, faulty.calls) == ("fine", 3, 3)


async def test_after_three_attempts_the_infra_error_is_raised(faulty, quick):
    faulty.faults = [status_500, status_429, reset, status_500]
    async with await ToolBox.open([ToolConfig(name="faulty", urls=(faulty.url,))]) as tools:
        with pytest.raises(InfraError, match=f"tool echo at {faulty.url}.*attempt 3, giving up"):
            await tools.call("echo", {}, soon())
    assert faulty.calls == 3


async def test_an_error_inside_the_contract_is_not_retried(faulty, quick):
    async def refuse(writer, request_id):
        send_result(writer, request_id, {"isError": True, "content": [{"type": "text", "text": "no"}]})

    faulty.faults = [refuse]
    async with await ToolBox.open([ToolConfig(name="faulty", urls=(faulty.url,))]) as tools:
        result = await tools.call("echo", {}, soon())
    assert (result.text, result.is_error, faulty.calls) == ("no", True, 1)


async def test_no_retry_is_begun_that_the_deadline_would_cut(faulty, monkeypatch):
    monkeypatch.setattr(server_module, "BACKOFF_S", (100.0, 100.0))
    faulty.faults = [status_500]
    async with await ToolBox.open([ToolConfig(name="faulty", urls=(faulty.url,))]) as tools:
        with pytest.raises(InfraError, match=r"HTTP 500.*no time for another"):
            await tools.call("echo", {}, soon(5))
    assert faulty.calls == 1


async def test_time_that_runs_out_after_a_failure_is_the_failures_fault(faulty, quick):
    async def hang(writer, request_id):
        await asyncio.sleep(30)

    faulty.faults = [status_500, hang]
    async with await ToolBox.open([ToolConfig(name="faulty", urls=(faulty.url,))]) as tools:
        with pytest.raises(InfraError, match="HTTP 500"):
            await tools.call("echo", {}, soon(0.5))


async def test_a_retry_goes_to_another_replica(faulty, quick, echo):
    faulty.faults = [status_500] * 10
    faulty.lists_like(await listed_by(echo.url))
    config = ToolConfig(name="replicas", urls=(faulty.url, echo.url))
    async with await ToolBox.open([config]) as tools:
        results = [await tools.call("echo", {"text": "x"}, soon()) for _ in range(12)]
    assert {result.text for result in results} == {"x"}
    assert all(result.attempts <= 2 for result in results)
    assert faulty.calls == sum(result.attempts - 1 for result in results) > 0


@pytest.mark.parametrize("fault", [not_json, status_500, close_at_once, another_id, bad_blocks])
async def test_a_server_that_cannot_list_its_tools_is_a_config_error_naming_it(faulty, fault):
    faulty.list_fault = fault
    with pytest.raises(ConfigError, match=f"tool server faulty cannot be reached: tools of {faulty.url}"):
        await ToolBox.open([ToolConfig(name="faulty", urls=(faulty.url,))])


async def test_a_refused_connection_at_open_is_a_config_error_naming_the_url():
    url = "http://127.0.0.1:9/mcp"
    with pytest.raises(ConfigError, match=f"tool server gone cannot be reached: tools of {url}: ClientConnectorError"):
        await ToolBox.open([ToolConfig(name="gone", urls=(url,))])
