"""What every server promises, asked of each of the five."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError

from tests.tool_servers.server_processes import (
    Running,
    call,
    command,
    get,
    metrics,
    start,
    stop,
    text,
)
from tool_servers.common import calls

NOWHERE = "http://127.0.0.1:9"
SERVERS = {
    "base_generator": ("--base-url", NOWHERE, "--model", "m"),
    "google_search": ("--engine", "searxng", "--base-url", NOWHERE),
    "python_coder": ("--memory-mb", "160", "--jobs", "2"),
    "web_search": ("--readers", "1"),
    "wikipedia_search": ("--api", NOWHERE),
}


@pytest.fixture(scope="module", params=list(SERVERS))
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    log = tmp_path_factory.mktemp("logs") / request.param
    running = start(
        command(request.param, "--timeout", "5", *SERVERS[request.param]), log, env={**os.environ}
    )
    yield running
    stop(running)


async def arguments_of(running: Running) -> dict[str, str]:
    async with Client(f"{running.url}/mcp") as client:
        (tool,) = (await client.list_tools()).tools
    return dict.fromkeys(tool.input_schema["properties"], "print('private')")


async def test_tool_is_described_for_prompts(server: Running) -> None:
    async with Client(f"{server.url}/mcp") as client:
        (tool,) = (await client.list_tools()).tools
    assert tool.name == server.line["server"]
    assert 0 < len(tool.description) < 120
    assert tool.input_schema["required"] == list(tool.input_schema["properties"])
    assert all(
        argument["type"] == "string" and argument["description"]
        for argument in tool.input_schema["properties"].values()
    )
    assert 0 < len(tool.meta[calls.NOTES]) < 400
    assert tool.meta[calls.CACHEABLE] is False and tool.meta[calls.KEEPS_STATE] is False
    assert len(tool.meta[calls.FINGERPRINT]) == 16
    assert tool.output_schema is None


async def test_health_metrics_and_logs(server: Running) -> None:
    name = server.line["server"]
    assert json.loads(get(server, "/healthz")[1])["server"] == name
    result = await call(server, name, await arguments_of(server), remaining_s=0)
    assert result.is_error and "stopped" in text(result)
    counted = metrics(server)
    assert counted[f'agentflow_tool_calls_total{{status="failed",tool="{name}"}}'] >= 1
    assert counted[f'agentflow_tool_call_seconds_count{{tool="{name}"}}'] >= 1
    assert counted[f'agentflow_tool_calls_running{{tool="{name}"}}'] == 0
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert any(
        line["message"] == "call" and line["tool"] == name and line["seconds"] >= 0
        for line in lines
    )
    assert "private" not in server.log.read_text()


async def test_names_that_a_model_made_up_are_counted_together(server: Running) -> None:
    for name in ("no_such_tool", "another"):
        try:
            assert (await call(server, name, {})).is_error
        except MCPError:
            pass
    assert not [name for name in metrics(server) if "no_such_tool" in name or "another" in name]
    assert [name for name in metrics(server) if 'tool="unknown"' in name]


@pytest.mark.parametrize("value", ["soon", True, [1]])
async def test_deadline_that_is_no_number_is_a_protocol_error(
    server: Running, value: object
) -> None:
    with pytest.raises(MCPError, match="must be a number of seconds"):
        await call(server, server.line["server"], await arguments_of(server), remaining_s=value)


async def test_arguments_that_do_not_fit_the_schema_are_the_model_s_to_correct(
    server: Running,
) -> None:
    assert "Field required" in text(await call(server, server.line["server"], {}))
    too_long = {name: "x" * 1_500_000 for name in await arguments_of(server)}
    if server.line["server"] != "python_coder":  # a program may be that long
        assert (await call(server, server.line["server"], too_long)).is_error


def test_it_ends_promptly_when_told(server: Running) -> None:
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) == 0
