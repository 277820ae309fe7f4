"""Under faults nothing hangs past its deadline, no call is lost or made twice, and nothing is left
running.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections import Counter

import psutil
import pytest

from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core import balancer as replicas_module
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import ConfigError, InfraError, OutOfTime
from agentflow_verl.tools.embedded.supervisor import Supervisor
from agentflow_verl.tools.toolbox import ToolBox
from agentflow_verl.tools.types import ToolResult
from tests.tools import faults
from tests.tools.embedded.test_supervisor import deaths, port_of
from tests.tools.servers import FaultyServer, embedded, get, soon, wait_until

SILENT = [faults.hang, faults.drip, faults.keep_alive_forever, faults.headers_without_end]
BROKEN = [faults.garbage, faults.status_429, faults.status_500, faults.close_early, faults.reset]


def belongings() -> dict[str, object]:
    """What this process has open: children, threads, files and sockets."""
    me = psutil.Process()
    return {
        "processes": sorted(child.pid for child in me.children(recursive=True)),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "descriptors": me.num_fds(),
    }


@pytest.fixture
def nothing_left():
    """Fails the test if it ends with more than it began with."""
    before = belongings()
    yield
    wait_until(
        lambda: belongings()["descriptors"] <= before["descriptors"], "descriptors are closed", 5
    )
    after = belongings()
    assert after["processes"] == before["processes"]
    assert after["threads"] == before["threads"]


async def ended(call) -> str:
    """How a call ended, in a word."""
    try:
        result = await call
    except OutOfTime:
        return "out of time"
    except InfraError:
        return "infra"
    return "error" if result.is_error else "answer"


@pytest.mark.parametrize("fault", [*SILENT, *BROKEN], ids=lambda fault: fault.__name__)
def test_no_call_outlives_its_deadline_and_nothing_is_left(fault, nothing_left):
    async def run() -> list[tuple[str, float]]:
        server = FaultyServer()
        await server.start()
        server.faults = [fault] * 1000
        tools = await ToolBox.open([ToolConfig(name="faulty", urls=(server.url,), concurrency=8)])

        async def one() -> tuple[str, float]:
            started = time.monotonic()
            return (
                await ended(tools.call("echo", {}, Deadline.after(1.0))),
                time.monotonic() - started,
            )

        try:
            return await asyncio.gather(*(one() for _ in range(20)))
        finally:
            await tools.close()
            mine = {asyncio.current_task(), *server.connections}
            assert asyncio.all_tasks() <= mine
            await server.stop()

    for how, seconds in asyncio.run(run()):
        assert (
            how == ("out of time" if fault in SILENT else "infra")
            or how in ("infra", "out of time")
            and seconds > 0.9
        )
        assert seconds < 5  # of a deadline of 1 s, on a machine that may be busy


def test_a_slow_server_gives_its_answer_where_time_is_left(nothing_left):
    async def slowly(writer, request_id):
        await asyncio.sleep(0.5)
        await faults.drip(writer, request_id, pause_s=0.001)

    async def run() -> ToolResult:
        server = FaultyServer()
        await server.start()
        server.faults = [slowly]
        try:
            async with await ToolBox.open([ToolConfig(name="slow", urls=(server.url,))]) as tools:
                return await tools.call("echo", {}, soon())
        finally:
            await server.stop()

    result = asyncio.run(run())
    assert (result.text, result.attempts) == ("slowly" * 100, 1)


def test_a_server_killed_under_load_loses_no_call_and_runs_none_that_was_given_up(
    tmp_path, nothing_left
):
    journal = tmp_path / "journal"
    texts = [f"call {number}" for number in range(300)]

    async def run(supervisor: Supervisor) -> list[ToolResult]:
        async with await ToolBox.open(supervisor.configs) as tools:
            first = await asyncio.gather(
                *(tools.call("echo", {"text": text}, soon(120)) for text in texts[:100])
            )
            calls = asyncio.gather(
                *(tools.call("echo", {"text": text}, soon(120)) for text in texts[100:])
            )
            await asyncio.sleep(0.02)
            os.kill(supervisor.pids["echo"], signal.SIGKILL)
            return [*first, *await calls]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replicas_module, "OUTAGE_S", 100.0)  # a loaded machine starts a server slowly
        with Supervisor(
            [embedded("echo", "--journal", str(journal), concurrency=4)], log_dir=tmp_path
        ) as supervisor:
            results = asyncio.run(run(supervisor))
            assert supervisor.restarts == {"echo": 1}
    assert [result.text for result in results] == texts
    assert all(result.attempts == 1 for result in results[:100])
    ran = Counter(journal.read_text().splitlines())
    for text, result in zip(texts, results):
        assert 1 <= ran[text] <= result.attempts


def test_a_call_that_changes_something_runs_at_most_once_even_where_its_server_is_killed(
    tmp_path, nothing_left
):
    journal = tmp_path / "journal"
    texts = [f"note {number}" for number in range(30)]

    async def run(supervisor: Supervisor) -> list[str]:
        async with await ToolBox.open(supervisor.configs) as tools:
            arguments = [{"text": text, "seconds": 0.2} for text in texts]
            calls = [
                asyncio.ensure_future(ended(tools.call("note", one, soon(120))))
                for one in arguments
            ]
            await asyncio.to_thread(wait_until, journal.exists, "calls arrive")
            os.kill(supervisor.pids["echo"], signal.SIGKILL)
            return await asyncio.gather(*calls)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replicas_module, "OUTAGE_S", 100.0)
        with Supervisor(
            [embedded("echo", "--journal", str(journal), concurrency=10)], log_dir=tmp_path
        ) as supervisor:
            endings = asyncio.run(run(supervisor))
    ran = Counter(journal.read_text().splitlines())
    assert max(ran.values()) == 1
    assert {ending for text, ending in zip(texts, endings) if not ran[text]} <= {"infra"}
    assert "infra" in endings and "answer" in endings


def name_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return process.name()
    return ""


def test_at_the_deadline_the_program_at_the_server_is_killed_and_its_slot_is_free(
    tmp_path, nothing_left
):
    async def run(supervisor: Supervisor) -> None:
        server = psutil.Process(supervisor.pids["python_coder"])

        def programs() -> list[psutil.Process]:
            return [
                process
                for process in server.children(recursive=True)
                if name_of(process) == "test-job"
            ]

        async with await ToolBox.open(supervisor.configs) as tools:
            assert (
                await tools.call("python_coder", {"code": "print(6 * 7)"}, soon(60))
            ).text.strip() == "42"
            endless = {
                "code": "import ctypes; ctypes.CDLL(None).prctl(15, b'test-job')\nwhile True: pass"
            }
            for _ in range(3):
                call = asyncio.ensure_future(
                    ended(tools.call("python_coder", endless, Deadline.after(3)))
                )
                await asyncio.to_thread(wait_until, programs, "the program runs", 3)
                assert await call in ("out of time", "error")
                await asyncio.to_thread(
                    wait_until, lambda: not programs(), "the program is gone", 10
                )
            assert (
                await tools.call("python_coder", {"code": "print(6 * 7)"}, soon(60))
            ).text.strip() == "42"

    config = ToolConfig(
        name="python_coder", args=("--jobs", "1", "--timeout", "60"), timeout_s=60.0
    )
    with Supervisor([config], log_dir=tmp_path) as supervisor:
        asyncio.run(run(supervisor))


def corpus_server(path) -> ToolConfig:
    """This project's search server over a corpus."""
    command = (sys.executable, "-m", "tool_servers.wikipedia_search")
    return ToolConfig(name="search", command=command, args=("--corpus", str(path)))


def test_a_corrupt_index_is_one_clear_line_at_the_start(tmp_path, nothing_left):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_bytes(b'{"title": "Zurich", "te\x00\xff')
    with pytest.raises(
        ConfigError, match=r"tool server search did not start: exited .*(?s:.*)corpus.jsonl"
    ):
        Supervisor([corpus_server(corpus)], log_dir=tmp_path / "logs").start()


def test_an_index_that_goes_bad_under_a_running_server_is_an_outage_until_it_is_repaired(
    tmp_path, caplog, nothing_left
):
    corpus, good = (
        tmp_path / "corpus.jsonl",
        json.dumps({"title": "Zurich", "text": "A city on a lake."}),
    )
    corpus.write_text(good)

    async def run(supervisor: Supervisor) -> None:
        async with await ToolBox.open(supervisor.configs) as tools:
            call = {"query": "lake"}
            assert "Zurich" in (await tools.call("wikipedia_search", call, soon())).text
            corpus.write_bytes(b"\x00\xff" * 100)
            os.kill(supervisor.pids["search"], signal.SIGKILL)
            await asyncio.to_thread(
                wait_until, lambda: len(deaths(caplog)) >= 2, "the restart fails", 60
            )
            assert await ended(tools.call("wikipedia_search", call, soon(1.5))) in (
                "infra",
                "out of time",
            )
            corpus.write_text(good)
            url = supervisor.configs[0]
            await asyncio.to_thread(
                wait_until, lambda: get(port_of(url), "/healthz"), "it is back", 90
            )
            assert "Zurich" in (await tools.call("wikipedia_search", call, soon(60))).text

    with Supervisor([corpus_server(corpus)], log_dir=tmp_path / "logs") as supervisor:
        asyncio.run(run(supervisor))
    assert "was killed by signal 9" in deaths(caplog)[0]
    assert "corpus.jsonl" in deaths(caplog)[1]
    assert "corpus.jsonl" in (tmp_path / "logs" / "search.log").read_text()


def test_thousands_of_calls_leave_nothing_behind(tmp_path, nothing_left):
    async def run() -> None:
        before = belongings()["descriptors"]
        for _ in range(3):
            async with await ToolBox.open(supervisor.configs) as tools:
                for _ in range(3):
                    await asyncio.gather(
                        *(ended(tools.call("echo", {"text": "x"}, soon(60))) for _ in range(300))
                    )
                    held.append(belongings()["descriptors"])
                await asyncio.gather(
                    *(
                        ended(tools.call("Slow_Tool", {"seconds": 9}, Deadline.after(0.2)))
                        for _ in range(64)
                    )
                )
            # aiohttp closes its last sockets after its session.
            for _ in range(50):
                await asyncio.sleep(0.1)
                if belongings()["descriptors"] <= before:
                    break
            held_after.append(belongings()["descriptors"])

    held: list[int] = []
    held_after: list[int] = []
    with Supervisor([embedded(concurrency=32)], log_dir=tmp_path) as supervisor:
        server = psutil.Process(supervisor.pids["echo"])
        asyncio.run(run())
        wait_until(
            lambda: not server.net_connections("tcp")[1:],
            "the server has only its listening socket",
            30,
        )
    assert max(held) - min(held) <= 32
    assert len(set(held_after)) == 1, held_after
