"""The three servers that ask a JSON service, while that service fails in every way: nothing hangs,
no model is blamed.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp.shared.exceptions import MCPError

from tests.tool_servers import services
from tests.tool_servers.server_processes import Running, call, command, metrics, start, stop, text
from tests.tool_servers.services import FAULTS, Service, says
from tool_servers.common import calls

KEY = "sk-a-secret-key-of-the-test"
TIMEOUT_S = 4.0
LIMITS = ("--timeout", str(TIMEOUT_S), "--max-reply-bytes", "100000", "--concurrency", "2")
GOOD = {
    "google_search": {
        "organic": [{"title": "Paris", "link": "https://a.example/", "snippet": "The capital."}]
    },
    "base_generator": {
        "choices": [
            {"message": {"role": "assistant", "content": "Paris."}, "finish_reason": "stop"}
        ]
    },
    "wikipedia_search": {
        "query": {
            "search": [{"ns": 0, "title": "Paris", "pageid": 1}],
            "pages": [
                {
                    "pageid": 1,
                    "ns": 0,
                    "title": "Paris",
                    "extract": "Paris is the capital of France.",
                }
            ],
        }
    },
}
UPSTREAM = {
    "google_search": "serper",
    "base_generator": "endpoint",
    "wikipedia_search": "mediawiki",
}
QUERY = {"query": "capital of France, a private question"}


@pytest.fixture(scope="module", params=list(GOOD))
def server(
    request: pytest.FixtureRequest, service: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    arguments = {
        "google_search": ("--engine", "serper", "--base-url", service.url),
        "base_generator": (
            "--base-url",
            f"{service.url}/v1",
            "--model",
            "m",
            "--api-key-env",
            "OPENAI_API_KEY",
        ),
        "wikipedia_search": ("--api", f"{service.url}/w/api.php"),
    }[request.param]
    environment = {**os.environ, "SERPER_API_KEY": KEY, "OPENAI_API_KEY": KEY}
    log = tmp_path_factory.mktemp("logs") / f"{request.param}.log"
    running = start(command(request.param, *LIMITS, *arguments), log, env=environment)
    yield running
    stop(running)


def name(server: Running) -> str:
    return server.line["server"]


async def works(server: Running, service: Service) -> None:
    service.reply = says(GOOD[name(server)])
    result = await call(server, name(server), QUERY)
    assert not result.is_error and "Paris" in text(result)


@pytest.mark.parametrize("fault", list(FAULTS))
async def test_failing_service_is_an_infrastructure_error_in_time(
    server: Running, service: Service, fault: str
) -> None:
    service.reply = FAULTS[fault]
    begin = time.monotonic()
    with pytest.raises(MCPError) as caught:
        await call(server, name(server), QUERY)
    assert time.monotonic() - begin < TIMEOUT_S + 3
    assert caught.value.error.code == -32603
    log = server.log.read_text()
    for said in (caught.value.error.message, log):
        assert KEY not in said and "private question" not in said
    assert all(json.loads(line) for line in log.splitlines())
    await works(server, service)


async def test_half_characters_and_repeated_keys_do_not_reach_the_model(
    server: Running, service: Service
) -> None:
    """JSON may hold half of a surrogate pair, and a service may answer with the key it was sent."""
    reply = json.dumps(GOOD[name(server)]).replace("Paris", f"Par\\ud83dis {KEY} Paris")
    service.reply = lambda _, handler: services.send(handler, reply.encode(), "application/json")
    result = await call(server, name(server), QUERY)
    assert not result.is_error and "Par\ufffdis" in text(result)
    if name(server) != "wikipedia_search":  # has no key
        assert KEY not in text(result) and "[key]" in text(result)


async def test_passing_fault_is_tried_again(server: Running, service: Service) -> None:
    failures = [services.close_early, FAULTS["500"]]

    def reply(asked, handler) -> None:
        (failures.pop() if failures else says(GOOD[name(server)]))(asked, handler)

    service.reply = reply
    before = metrics(server)
    result = await call(server, name(server), QUERY)
    assert "Paris" in text(result) and not failures
    counted = metrics(server)
    for outcome in ("500", "connection", "ok"):
        labels = f'outcome="{outcome}",upstream="{UPSTREAM[name(server)]}"'
        key = f"agentflow_tool_upstream_requests_total{{{labels}}}"
        assert counted[key] > before.get(key, 0)


async def test_service_that_asks_for_patience_beyond_the_deadline_is_not_waited_for(
    server: Running, service: Service
) -> None:
    service.reply = says({"error": "quota"}, 429, Retry_After="3600")
    begin = time.monotonic()
    with pytest.raises(MCPError, match="HTTP 429"):
        await call(server, name(server), QUERY)
    assert time.monotonic() - begin < 2


async def test_caller_whose_time_runs_out_gets_a_result(server: Running, service: Service) -> None:
    service.reply = services.slow
    result = await call(server, name(server), QUERY, remaining_s=0.5)
    assert result.is_error and "no result within 0.5 s" in text(result)


async def test_refused_key_is_an_infrastructure_error_that_names_no_key(
    server: Running, service: Service
) -> None:
    service.reply = says({"error": {"message": f"Incorrect API key provided: {KEY}"}}, 401)
    with pytest.raises(MCPError, match="HTTP 401") as caught:
        await call(server, name(server), QUERY)
    if name(server) != "wikipedia_search":
        assert KEY not in caught.value.error.message and "[key]" in caught.value.error.message
        assert KEY not in server.log.read_text()


async def test_calls_beyond_the_limit_wait_and_are_told_when_none_came_free(
    server: Running, service: Service
) -> None:
    service.reply = services.slow
    slow = [
        asyncio.ensure_future(call(server, name(server), QUERY, remaining_s=2.5)) for _ in range(2)
    ]
    await asyncio.sleep(0.7)
    with pytest.raises(MCPError, match="slots were busy") as caught:
        await call(server, name(server), QUERY, remaining_s=0.5)
    assert caught.value.error.code == calls.SERVER_BUSY
    assert all(result.is_error for result in await asyncio.gather(*slow))
    await works(server, service)


def test_unreachable_service_is_noticed_when_it_is_called(tmp_path: Path) -> None:
    free = services.Service(says({}))
    closed = services.start(free)
    closed.shutdown()
    closed.server_close()
    line = command("base_generator", "--base-url", free.url, "--model", "m")
    running = start(line, tmp_path / "log")
    try:
        with pytest.raises(MCPError, match="attempt 3 of 3: ClientConnectorError"):
            asyncio.run(call(running, "base_generator", QUERY))
    finally:
        stop(running)
