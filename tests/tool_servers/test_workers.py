"""``--workers N``: one port, one listening line, one set of counts, one end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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
    start,
    stop,
    text,
)
from tool_servers.common.workers import METRICS_FOLDER, metrics_folder

OK = 'agentflow_tool_calls_total{status="ok",tool="wikipedia_search"}'


def three_workers(corpus: Path) -> list[str]:
    return command("wikipedia_search", "--corpus", str(corpus), "--workers", "3")


@pytest.fixture(scope="module")
def three(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Three workers that outlive the tests they are shared by."""
    running = start(three_workers(corpus), tmp_path_factory.mktemp("logs") / "three.log")
    yield running
    stop(running)


@pytest.fixture
def ending(launch: Callable[..., Running], corpus: Path) -> Running:
    return launch(three_workers(corpus))


async def ask(running: Running) -> str:
    return text(await call(running, "wikipedia_search", {"query": "Paris"}, remaining_s=20))


async def test_workers_share_a_port_and_their_counts(three: Running) -> None:
    assert three.line["workers"] == 3 and three.pid == three.process.pid
    assert len(descendants(three.pid)) == 3
    before = metrics(three).get(OK, 0)
    answers = await asyncio.gather(*(ask(three) for _ in range(24)))
    assert all(answer.startswith("[1] Paris") for answer in answers)
    counted = metrics(three)
    assert (
        counted[OK] == before + 24
        and counted['agentflow_tool_info{server="wikipedia_search"}'] == 3
    )
    assert counted['agentflow_tool_calls_running{tool="wikipedia_search"}'] == 0


async def test_worker_that_dies_is_replaced_and_what_waits_is_answered(three: Running) -> None:
    before = descendants(three.pid)
    os.kill(min(before)[0], signal.SIGKILL)
    assert await asyncio.to_thread(
        eventually, lambda: len(descendants(three.pid) - before) == 1, 30
    )
    answers = await asyncio.gather(*(ask(three) for _ in range(12)))
    assert len(answers) == 12
    assert metrics(three)['agentflow_tool_info{server="wikipedia_search"}'] == 3
    assert any(
        json.loads(line)["message"] == "worker ended" for line in three.log.read_text().splitlines()
    )


def folder_of(running: Running) -> Path:
    """Where its workers keep their counts."""
    (worker, _), *_ = descendants(running.pid)
    variables = Path(f"/proc/{worker}/environ").read_text().split("\0")
    (folder,) = (line.partition("=")[2] for line in variables if line.startswith(METRICS_FOLDER))
    return Path(folder)


def test_workers_end_together(ending: Running) -> None:
    workers, folder = descendants(ending.pid), folder_of(ending)
    assert folder.is_dir()
    ending.process.send_signal(signal.SIGTERM)
    assert ending.process.wait(10) == 0
    assert not alive(workers) and not folder.exists()


def test_workers_die_with_a_parent_that_is_killed_and_the_next_one_clears_up(
    three: Running, ending: Running
) -> None:
    workers = descendants(ending.pid)
    kept, left = (folder_of(running) for running in (three, ending))
    ending.process.kill()
    ending.process.wait()
    assert eventually(lambda: not alive(workers))
    with metrics_folder():
        assert kept.is_dir() and not left.exists()


def test_wrong_option_of_the_server_is_one_line(tmp_path: Path) -> None:
    line = command("wikipedia_search", "--workers", "3", "--corpus", str(tmp_path / "none"))
    ended = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2 and ended.stdout == ""
    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert "none cannot be read" in line


def test_port_that_is_taken_is_not_shared(three: Running, corpus: Path) -> None:
    port = str(three.line["port"])
    line = command("wikipedia_search", "--corpus", str(corpus), "--port", port)
    for further in ([], ["--workers", "2"]):
        ended = subprocess.run(
            [*line, *further], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert ended.returncode == 2 and "Address already in use" in ended.stderr
    assert get(three, "/healthz")[0] == 200


async def test_the_sandbox_server_has_workers_too(launch: Callable[..., Running]) -> None:
    running = launch(command("python_coder", "--workers", "2", "--jobs", "2", "--memory-mb", "160"))
    assert running.line["isolation"] == "full" and running.line["workers"] == 2
    program = {"code": "import time; time.sleep(0.2); print(6 * 7)"}
    results = await asyncio.gather(*(call(running, "python_coder", program) for _ in range(6)))
    assert [text(result) for result in results] == ["42\n"] * 6
