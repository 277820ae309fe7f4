"""Whatever a broken server sends, the call ends as an ``InfraError`` that names the tool and the
URL.
"""

from __future__ import annotations

import asyncio
import json
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.errors import ConfigError, InfraError
from agentflow_verl.core.retry import RetryPolicy
from agentflow_verl.tools import tool_client
from agentflow_verl.tools.mcp.client import McpClient
from agentflow_verl.tools.toolbox import ToolBox
from tests.tools.faults import (
    a_list,
    another_id,
    bad_blocks,
    busy,
    close_at_once,
    close_early,
    empty_stream,
    garbage,
    hang,
    hundred_megabytes,
    json_rpc_error,
    needs_a_person,
    no_result,
    not_json,
    redirect,
    reset,
    status_429,
    status_500,
    status_503,
    wrong_json,
)
from tests.tools.servers import FaultyServer, listed_by, send, send_json, send_result, soon

FAULTS = {
    garbage: "",
    not_json: "not JSON: <html>nginx</html>",
    wrong_json: "not a JSON-RPC answer",
    no_result: "without a result",
    a_list: "not a JSON-RPC answer",
    another_id: "answer to request 'someone else'",
    bad_blocks: "unreadable result",
    json_rpc_error: "JSON-RPC error -32603: Internal error",
    status_500: "HTTP 500: Internal Server Error",
    status_429: "HTTP 429: slow down",
    status_503: "HTTP 503: no upstream",
    busy: "JSON-RPC error -32050",
    redirect: "HTTP 307",
    close_at_once: "ServerDisconnectedError",
    reset: "",
    close_early: "ClientPayloadError",
    empty_stream: "ended without an answer",
}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(tool_client, "RETRY", RetryPolicy(first_pause_s=0.02))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_a_broken_answer_is_an_infra_error_with_the_reason(client, faulty, fault):
    # A kept connection that closes without a byte is met again on a new one.
    faulty.faults = [fault, fault] if fault in (close_at_once, reset) else [fault]
    with pytest.raises(InfraError) as caught:
        await client.call_tool(faulty.url, "echo", {}, soon())
    assert str(caught.value).startswith(f"tool echo at {faulty.url}: ")
    assert FAULTS[fault] in str(caught.value)
    assert (await client.call_tool(faulty.url, "echo", {}, soon())).text == "fine"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    body=st.binary(max_size=200), status=st.sampled_from(["200 OK", "400 Bad Request", "503 Busy"])
)
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


async def misses_a_capability(writer, request_id):
    error = {"code": -32021, "message": "Client does not support sampling"}
    send_json(writer, {"jsonrpc": "2.0", "id": request_id, "error": error}, "400 Bad Request")


@pytest.mark.parametrize("fault", [needs_a_person, misses_a_capability])
async def test_tool_that_needs_a_person_is_an_error_for_the_plan(client, faulty, fault):
    faulty.faults = [fault]
    result = await client.call_tool(faulty.url, "echo", {}, soon())
    assert result.is_error and "asks for input" in result.text


@pytest.mark.parametrize("method", ["roots/list", "sampling/createMessage", "elicitation/create"])
async def test_servers_request_is_answered_and_the_call_goes_on(client, faulty, method):
    """Over one stream: the server asks, and answers the call once it has been told no."""
    told = asyncio.Event()

    async def asks_first(writer, request_id):
        request = {"jsonrpc": "2.0", "id": "s1", "method": method, "params": {}}
        result = {"content": [{"type": "text", "text": "not without"}], "isError": True}
        answer = {"jsonrpc": "2.0", "id": request_id, "result": result}
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        writer.write(f"data: {json.dumps(request)}\n\n".encode())
        await writer.drain()
        await asyncio.wait_for(told.wait(), 20)
        writer.write(f"data: {json.dumps(answer)}\n\n".encode())

    def take(reply):
        assert (reply["id"], reply["error"]["code"]) == ("s1", -32601)
        told.set()

    faulty.on_reply = take
    faulty.faults = [asks_first]
    result = await client.call_tool(faulty.url, "echo", {}, soon())
    assert (result.is_error, result.text) == (True, "not without")


async def test_ping_of_a_server_is_answered(client, faulty):
    replies = []

    async def pings_first(writer, request_id):
        ping = {"jsonrpc": "2.0", "id": 7, "method": "ping"}
        answer = {"jsonrpc": "2.0", "id": request_id, "result": {"content": []}}
        body = f"data: {json.dumps(ping)}\n\ndata: {json.dumps(answer)}\n\n"
        send(writer, body.encode(), kind="text/event-stream")

    faulty.on_reply = replies.append
    faulty.faults = [pings_first]
    assert not (await client.call_tool(faulty.url, "echo", {}, soon())).is_error
    assert replies == [{"jsonrpc": "2.0", "id": 7, "result": {}}]


async def test_a_reply_of_100_megabytes_is_not_read_to_its_end(client, faulty):
    faulty.faults = [hundred_megabytes]
    await client.list_tools(faulty.url, soon())
    tracemalloc.start()
    try:
        result = await client.call_tool(faulty.url, "echo", {}, soon())
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result.is_error and result.truncated
    assert most < 16 * 2**20
    assert (await client.call_tool(faulty.url, "echo", {}, soon())).text == "fine"


async def test_a_reply_that_announces_100_megabytes_is_not_read_at_all(client, faulty):
    async def announce(writer, request_id):
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length:"
            b" 104857600\r\n\r\n"
        )

    faulty.faults = [announce]
    assert (await client.call_tool(faulty.url, "echo", {}, soon())).truncated


async def test_infra_errors_are_retried(faulty, quick):
    faulty.faults = [status_500, close_early]
    async with await ToolBox.open([ToolConfig(name="faulty", urls=(faulty.url,))]) as tools:
        result = await tools.call("echo", {}, soon())
    assert (result.text, result.attempts, faulty.calls) == ("fine", 3, 3)


async def test_after_three_attempts_the_infra_error_is_raised(faulty, quick):
    faulty.faults = [status_500, status_429, close_early, status_500]
    async with await ToolBox.open([ToolConfig(name="faulty", urls=(faulty.url,))]) as tools:
        with pytest.raises(InfraError, match=f"tool echo at {faulty.url}.*attempt 3, giving up"):
            await tools.call("echo", {}, soon())
    assert faulty.calls == 3


async def test_an_error_inside_the_contract_is_not_retried(faulty, quick):
    async def refuse(writer, request_id):
        send_result(
            writer, request_id, {"isError": True, "content": [{"type": "text", "text": "no"}]}
        )

    faulty.faults = [refuse]
    async with await ToolBox.open([ToolConfig(name="faulty", urls=(faulty.url,))]) as tools:
        result = await tools.call("echo", {}, soon())
    assert (result.text, result.is_error, faulty.calls) == ("no", True, 1)


CHANGING = {"annotations": {"readOnlyHint": False}}


@pytest.mark.parametrize("fault", [status_500, close_early, reset, garbage, another_id, not_json])
async def test_a_call_that_may_have_changed_something_is_not_repeated(faulty, quick, fault):
    faulty.lists(**CHANGING)
    faulty.faults = [fault]
    async with await ToolBox.open([ToolConfig(name="faulty", urls=(faulty.url,))]) as tools:
        with pytest.raises(InfraError, match="not repeated: it may have changed something"):
            await tools.call("echo", {}, soon())
    assert faulty.calls == 1


@pytest.mark.parametrize("fault", [status_429, status_503, busy])
async def test_a_call_that_was_turned_away_is_repeated_whatever_it_does(faulty, quick, fault):
    faulty.lists(**CHANGING)
    faulty.faults = [fault]
    async with await ToolBox.open([ToolConfig(name="faulty", urls=(faulty.url,))]) as tools:
        assert (await tools.call("echo", {}, soon())).attempts == 2


@pytest.mark.parametrize(
    "hints", [{"readOnlyHint": False, "idempotentHint": True}, {"readOnlyHint": True}, {}]
)
async def test_a_call_that_changes_nothing_more_the_second_time_is_repeated(faulty, quick, hints):
    faulty.lists(annotations=hints)
    faulty.faults = [close_early]
    async with await ToolBox.open([ToolConfig(name="faulty", urls=(faulty.url,))]) as tools:
        assert (await tools.call("echo", {}, soon())).attempts == 2


async def test_a_server_that_says_when_to_come_back_is_left_alone_until_then(faulty, quick):
    async def come_back(writer, request_id):
        writer.write(
            b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
        )

    faulty.faults = [come_back]
    async with await ToolBox.open([ToolConfig(name="faulty", urls=(faulty.url,))]) as tools:
        result = await tools.call("echo", {}, soon())
    assert result.attempts == 2
    assert result.seconds >= 1


async def test_no_retry_is_begun_that_the_deadline_would_cut(faulty, monkeypatch):
    monkeypatch.setattr(
        tool_client, "RETRY", RetryPolicy(first_pause_s=200.0, longest_pause_s=200.0)
    )
    faulty.faults = [status_500]
    async with await ToolBox.open([ToolConfig(name="faulty", urls=(faulty.url,))]) as tools:
        with pytest.raises(InfraError, match=r"HTTP 500.*no time for another"):
            await tools.call("echo", {}, soon(5))
    assert faulty.calls == 1


async def test_time_that_runs_out_after_a_failure_is_the_failures_fault(faulty, quick):
    faulty.faults = [status_500, hang]
    async with await ToolBox.open([ToolConfig(name="faulty", urls=(faulty.url,))]) as tools:
        with pytest.raises(InfraError, match="HTTP 500|no answer"):
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
    with pytest.raises(
        ConfigError, match=f"tool server faulty cannot be reached: tools of {faulty.url}"
    ):
        await ToolBox.open([ToolConfig(name="faulty", urls=(faulty.url,))])


async def test_a_refused_connection_at_open_is_a_config_error_naming_the_url():
    url = "http://127.0.0.1:9/mcp"
    with pytest.raises(
        ConfigError,
        match=f"tool server gone cannot be reached: tools of {url}: ClientConnectorError",
    ):
        await ToolBox.open([ToolConfig(name="gone", urls=(url,))])


async def test_a_server_that_is_starting_again_at_open_is_waited_for(faulty):
    faulty.list_fault = status_503
    opening = asyncio.ensure_future(
        ToolBox.open([ToolConfig(name="faulty", urls=(faulty.url,))], patience_s=60.0)
    )
    await asyncio.sleep(1.0)
    assert not opening.done()
    faulty.list_fault = None
    async with await opening as tools:
        assert tools.specs
