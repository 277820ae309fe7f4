"""State of one trajectory all the way: ToolBox, MCP, python_coder with ``--sessions``."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import pytest_asyncio

from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import InfraError
from agentflow_verl.tools.session import TrajectoryState
from agentflow_verl.tools.toolbox import ToolBox
from tests.tool_servers.server_processes import (
    ROOT,
    Running,
    alive,
    command,
    descendants,
    eventually,
    start,
    stop,
)

LINE = command(
    "python_coder", "--timeout", "60", "--memory-mb", "160", "--jobs", "2", "--sessions", "8"
)
LEFT = "print('x' in globals(), __import__('os').listdir('/tmp'))"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Running]]:
    folder = tmp_path_factory.mktemp("logs")
    with ThreadPoolExecutor() as pool:
        started = list(pool.map(lambda number: start(LINE, folder / f"{number}.log"), range(2)))
    yield started
    for running in started:
        stop(running)


@pytest_asyncio.fixture
async def tools(servers: list[Running]) -> AsyncIterator[ToolBox]:
    """Two replicas: state is at one of them."""
    async with await ToolBox.open(
        [ToolConfig(name="coder", urls=tuple(f"{one.url}/mcp" for one in servers), timeout_s=60)]
    ) as box:
        yield box


async def say(tools: ToolBox, code: str, state: TrajectoryState | None) -> str:
    result = await tools.call("python_coder", {"code": code}, Deadline.after(60), state)
    assert not result.is_error, result
    return result.text


async def test_trajectory_keeps_its_variables_and_files_and_never_sees_those_of_others(
    tools: ToolBox,
) -> None:
    states = [TrajectoryState() for _ in range(6)]
    await asyncio.gather(
        *(
            say(tools, f"x = {n}; open('/tmp/{n}', 'w').close()", state)
            for n, state in enumerate(states)
        )
    )
    assert await say(tools, LEFT, None) == await say(tools, LEFT, TrajectoryState()) == "False []\n"
    seen = await asyncio.gather(
        *(say(tools, "import os; print(x, os.listdir('/tmp'))", state) for state in states)
    )
    assert seen == [f"{n} ['{n}']\n" for n in range(6)]
    for state in states:
        tools.end(state)


async def test_state_dies_with_its_trajectory(tools: ToolBox, servers: list[Running]) -> None:
    state = TrajectoryState()
    named = (
        "import ctypes, os, time; ctypes.CDLL(None).prctl(15, b'left-over')\nif os.fork() == 0:"
        " time.sleep(600)"
    )
    await say(tools, f"x = 1\n{named}", state)

    def left_over() -> list[int]:
        jobs = alive(set().union(*(descendants(one.pid) for one in servers)))
        return [pid for pid, _ in jobs if _name(pid) == "left-over"]

    assert len(left_over()) == 2
    tools.end(state)
    assert await asyncio.to_thread(eventually, lambda: not left_over())
    assert await say(tools, LEFT, state) == "False []\n"
    tools.end(state)
    tools.end(TrajectoryState())  # one that never called


async def test_state_that_ended_with_its_program_is_said_and_is_not_missed(tools: ToolBox) -> None:
    state = TrajectoryState()
    await say(tools, "x = 1", state)
    result = await tools.call(
        "python_coder", {"code": "import os; os._exit(1)"}, Deadline.after(60), state
    )
    assert result.is_error and "gone" in result.text
    assert await say(tools, LEFT, state) == "False []\n"
    tools.end(state)


async def test_state_lost_with_its_server_is_an_infrastructure_error(
    servers: list[Running], tmp_path: Path
) -> None:
    state = TrajectoryState()
    async with await ToolBox.open(
        [ToolConfig(name="coder", urls=(f"{servers[0].url}/mcp",))]
    ) as tools:
        await say(tools, "x = 1", state)
        stop(servers[0])
        servers[0] = start([*LINE, "--port", str(servers[0].line["port"])], tmp_path / "again.log")
        with pytest.raises(InfraError, match="what it had defined is gone"):
            await say(tools, "print(x)", state)


def test_state_and_workers_are_refused_together() -> None:
    ended = subprocess.run(
        [*LINE, "--workers", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ,
    )
    assert ended.returncode == 2 and not ended.stdout
    assert ended.stderr.splitlines() == [
        "python_coder: --sessions keeps state in one process: instead of --workers, start several"
        " servers"
    ]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
