"""Real servers of other people, as configuration only. Run where they are on the PATH, skipped
elsewhere:

pip install mcp-server-time mcp-server-fetch mcp-server-git mcp-server-sqlite mcp-server-calculator
    (in an environment of its own: they need an older SDK)
npm install -g @modelcontextprotocol/server-everything @modelcontextprotocol/server-filesystem
    @modelcontextprotocol/server-memory @modelcontextprotocol/server-sequential-thinking
"""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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


async def first_text(node: dict, log_dir: Path, tool: str, arguments: dict):
    configs = tuple(schema.load(node).tools.values())
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
    nodes = {"tools": {"clock": stdio("clock", TIME, "--local-timezone", "UTC")}}
    arguments = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
    result = await first_text(nodes, tmp_path, "convert_time", arguments)
    assert not result.is_error and "21:00" in result.text
    wrong = await first_text(nodes, tmp_path, "get_current_time", {"timezone": "Nowhere/Land"})
    assert wrong.is_error and "Nowhere/Land" in wrong.text


@needs(EVERYTHING)
async def test_a_server_from_npm(tmp_path: Path) -> None:
    result = await first_text(
        {"tools": {"everything": stdio("everything", EVERYTHING, "stdio")}},
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


@dataclass(frozen=True)
class Sample:
    """A server as its guide configures it under ``mcpServers``, and a call of it. ``FOLDER`` stands
    for a folder with a file, a git repository and a database, ``PAGE`` for a page's address.
    """

    program: str
    tool: str
    arguments: dict[str, Any]
    result: str
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)


SAMPLES = (
    Sample("mcp-server-calculator", "calculate", {"expression": "2**10 + 1"}, "1025"),
    Sample(
        "mcp-server-fetch",
        "fetch",
        {"url": "PAGE"},
        "zinc",
        args=("--ignore-robots-txt", "--allow-private-ips"),
    ),
    Sample(
        "mcp-server-git",
        "git_log",
        {"repo_path": "FOLDER", "max_count": 1},
        "Add a note",
        args=("--repository", "FOLDER"),
    ),
    Sample(
        "mcp-server-sqlite",
        "read_query",
        {"query": "SELECT 6 * 7 AS answer"},
        "42",
        args=("--db-path", "FOLDER/metals.db"),
    ),
    Sample(
        "mcp-server-filesystem",
        "read_text_file",
        {"path": "FOLDER/note.txt"},
        "zinc",
        args=("FOLDER",),
    ),
    Sample(
        "mcp-server-memory",
        "create_entities",
        {"entities": [{"name": "zinc", "entityType": "metal", "observations": ["blue-white"]}]},
        "blue-white",
        env={"MEMORY_FILE_PATH": "FOLDER/memory.jsonl"},
    ),
    Sample(
        "mcp-server-sequential-thinking",
        "sequentialthinking",
        {"thought": "First", "nextThoughtNeeded": True, "thoughtNumber": 1, "totalThoughts": 2},
        "thoughtHistoryLength",
    ),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    made.mkdir()
    (made / "note.txt").write_text("zinc is a metal\n")
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "Add a note"]):
        subprocess.run(["git", *command], cwd=made, check=True)
    return made


@pytest.fixture
def page(folder: Path) -> Iterator[str]:
    """The address of a page with the note's text."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/note.txt"
        server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize(
    "sample",
    [pytest.param(sample, marks=needs(sample.program), id=sample.program) for sample in SAMPLES],
)
async def test_a_server_as_its_guide_configures_it(
    sample: Sample, folder: Path, page: str, tmp_path: Path
) -> None:
    def placed(value: Any) -> Any:
        return json.loads(json.dumps(value).replace("FOLDER", str(folder)).replace("PAGE", page))

    server = {"command": sample.program, "args": placed(sample.args), "env": placed(sample.env)}
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps({"mcpServers": {"other": server}}))
    result = await first_text(
        {"mcp_servers": str(file)}, tmp_path, sample.tool, placed(sample.arguments)
    )
    assert not result.is_error and sample.result in result.text


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
