"""Real servers of other people, as configuration only. Run where they are on the PATH, skipped
elsewhere:

pip install mcp-server-time      (in an environment of its own: it needs an older SDK)
npm install -g @modelcontextprotocol/server-everything
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from agentflow_verl.config import schema
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.tools.embedded.supervisor import Supervisor
from agentflow_verl.tools.toolbox import ToolBox
from tests.tool_servers.server_processes import eventually

TIME, EVERYTHING = "mcp-server-time", "mcp-server-everything"


def needs(program: str):
    return pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not installed")


def stdio(name: str, *line: str) -> dict:
    """What stands under ``agentflow.tools``."""
    return {
        "command": ["python", "-m", "tool_servers.stdio"],
        "args": ["--name", name, "--", *line],
    }


async def first_text(nodes: dict, log_dir: Path, tool: str, arguments: dict):
    configs = tuple(schema.load({"tools": nodes}).tools.values())
    supervisor = Supervisor(configs, log_dir)
    try:
        started = await asyncio.to_thread(supervisor.start)
        async with await ToolBox.open(started) as box:
            return await box.call(tool, arguments, Deadline.after(30))
    finally:
        await asyncio.to_thread(supervisor.stop)


@pytest.fixture(autouse=True)
def python_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")


@needs(TIME)
async def test_a_server_from_pypi(tmp_path: Path) -> None:
    nodes = {"clock": stdio("clock", TIME, "--local-timezone", "UTC")}
    arguments = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
    result = await first_text(nodes, tmp_path, "convert_time", arguments)
    assert not result.is_error and "21:00" in result.text
    wrong = await first_text(nodes, tmp_path, "get_current_time", {"timezone": "Nowhere/Land"})
    assert wrong.is_error and "Nowhere/Land" in wrong.text


@needs(EVERYTHING)
async def test_a_server_from_npm(tmp_path: Path) -> None:
    result = await first_text(
        {"everything": stdio("everything", EVERYTHING, "stdio")},
        tmp_path,
        "get-sum",
        {"a": 2, "b": 3},
    )
    assert not result.is_error and "5" in result.text


@needs(EVERYTHING)
async def test_a_server_from_npm_that_speaks_http_itself() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [EVERYTHING, "streamableHttp"],
        env={**os.environ, "PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert await asyncio.to_thread(eventually, lambda: answers(port), 30)
        nodes = {"everything": {"urls": [f"http://127.0.0.1:{port}/mcp"]}}
        configs = tuple(schema.load({"tools": nodes}).tools.values())
        async with aiohttp.ClientSession() as session, await ToolBox.open(configs, session) as box:
            result = await box.call("echo", {"message": "hello"}, Deadline.after(30))
        assert not result.is_error and "hello" in result.text
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
