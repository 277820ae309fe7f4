"""Both servers as they are used: own processes, spoken to over MCP, ended in every way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from mcp.shared.exceptions import MCPError

from tests.tool_servers.sandbox_attacks import MARK
from tests.tool_servers.server_processes import (
    ROOT,
    Running,
    alive,
    call,
    command,
    descendants,
    eventually,
    get,
    start,
    stop,
    text,
)
from tool_servers.common import calls
from tool_servers.python_coder import server as python_coder_server
from tool_servers.python_coder.sandbox import bubblewrap, selftest
from tool_servers.python_coder.sandbox.limits import Busy
from tool_servers.python_coder.sandbox.runner import Sandbox
from tool_servers.wikipedia_search import server as wikipedia_search_server

NAMED = "import ctypes, os, time; ctypes.CDLL(None).prctl(15, b'test-job')\n"
"""A job's process, and its children, are told by this name from sandboxes that wait for one
(prctl(2), PR_SET_NAME).
"""
SLEEP = {"code": f"{NAMED}print('first'); time.sleep(60)"}
LIMITED = ("--timeout", "60", "--memory-mb", "160", "--jobs", "4")


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def python_coder(logs: Path) -> Iterator[Running]:
    running = start(
        command("python_coder", *LIMITED),
        logs / "python_coder.log",
        env={**os.environ, MARK: "seen"},
    )
    yield running
    stop(running)


@pytest.fixture(scope="module")
def wikipedia_search(logs: Path, corpus: Path) -> Iterator[Running]:
    running = start(
        command("wikipedia_search", "--corpus", str(corpus), "--k", "2"),
        logs / "wikipedia_search.log",
    )
    yield running
    stop(running)


@pytest.fixture(params=["python_coder", "wikipedia_search"])
def server(request: pytest.FixtureRequest) -> Running:
    return request.getfixturevalue(request.param)


def jobs_of(running: Running) -> set[tuple[int, str]]:
    return {job for job in alive(descendants(running.pid)) if name_of(job[0]) == "test-job"}


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def health(running: Running) -> dict:
    status, body = get(running, "/healthz")
    assert status == 200
    return json.loads(body)


# both servers


def test_listening_line_and_health_say_what_runs(
    python_coder: Running, wikipedia_search: Running
) -> None:
    for running, server, facts in (
        (python_coder, "python_coder", {"isolation": "full"}),
        (wikipedia_search, "wikipedia_search", {"source": "corpus"}),
    ):
        line = {
            "event": "listening",
            "server": server,
            "port": running.line["port"],
            "pid": running.process.pid,
            **facts,
        }
        assert running.line == line
        assert health(running) == {"status": "ok", "server": server, **facts}


@pytest.mark.parametrize("remaining_s", [0, -3.5])
async def test_no_time_left_is_a_failure_at_once(server: Running, remaining_s: float) -> None:
    tool, argument = (
        server.line["server"],
        {"python_coder": "code", "wikipedia_search": "query"}[server.line["server"]],
    )
    result = await call(server, tool, {argument: "print(1)"}, remaining_s=remaining_s)
    assert result.is_error and "stopped" in text(result)


def post(running: Running, host: str) -> int:
    """The status of a tools/list request that names ``host`` as where it goes."""
    headers = {
        "Host": host,
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
    }
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}).encode()
    request = urllib.request.Request(
        f"{running.url}/mcp", data=body, headers=headers, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


def test_foreign_host_header_is_refused(server: Running) -> None:
    assert post(server, f"127.0.0.1:{server.line['port']}") == 200
    assert post(server, "evil.example") == 421


async def test_logs_are_one_json_object_a_line(server: Running) -> None:
    await call(server, server.line["server"], {"code": "print('private')", "query": "Paris"})
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert any(
        line["message"] == "call" and line["status"] == "ok" and line["seconds"] >= 0
        for line in lines
    )
    assert "private" not in server.log.read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "0.0.0.0"], "not a loopback address"),
        (["--port", "70000"], "not between 0 and 65535"),
        (["--timeout", "nan"], "not between"),
        (["--exit-with-parent", "-1"], "not between"),
        (["--no-such-option"], "unrecognized arguments"),
    ],
)
@pytest.mark.parametrize("name", ["python_coder", "wikipedia_search"])
def test_wrong_option_ends_with_one_reason(
    name: str, corpus: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    main = {
        "python_coder": python_coder_server.main,
        "wikipedia_search": wikipedia_search_server.main,
    }[name]
    needed = ["--corpus", str(corpus)] if name == "wikipedia_search" else []
    with pytest.raises(SystemExit) as ended:
        main([*needed, *arguments])
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert says in said.err.splitlines()[-1]
    assert said.out == ""


# wikipedia_search


async def test_search_over_mcp(wikipedia_search: Running) -> None:
    result = await call(
        wikipedia_search, "wikipedia_search", {"query": "capital of Germany"}, remaining_s=5
    )
    assert not result.is_error
    assert text(result).startswith("[1] Berlin\nBerlin is the capital of Germany.\n\n[2] Paris\n")
    assert "characters left out]" in text(
        await call(wikipedia_search, "wikipedia_search", {"query": "tuna"})
    )
    nothing = await call(wikipedia_search, "wikipedia_search", {"query": "zzzqqq"})
    assert not nothing.is_error and text(nothing).startswith("No result")


def test_corpus_that_cannot_be_used_ends_with_one_line(tmp_path: Path) -> None:
    file = tmp_path / "corpus.jsonl"
    file.write_text('{"title": "a", "text": "b"}\nnot json\n')
    line = command("wikipedia_search", "--corpus", str(file))
    ended = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    (reason,) = ended.stderr.splitlines()
    assert f"corpus {file}, line 2: not JSON" in reason
    assert ended.stdout == ""


def test_corpus_that_is_not_there_ends_with_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        wikipedia_search_server.main(["--corpus", str(tmp_path / "none")])
    assert ended.value.code == 2 and "none cannot be read" in capsys.readouterr().err


# python_coder


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_program_over_mcp(python_coder: Running, mode: str) -> None:
    result = await call(python_coder, "python_coder", {"code": "print(6 * 7)"}, mode=mode)
    assert not result.is_error and text(result) == "42\n"


async def test_failure_of_the_program_is_an_error_the_planner_can_read(
    python_coder: Running,
) -> None:
    result = await call(python_coder, "python_coder", {"code": "isbn"})
    assert result.is_error
    assert text(result).endswith("NameError: name 'isbn' is not defined\n[failed: exit code 1]")
    silent = await call(python_coder, "python_coder", {"code": "x = 1 + 1"})
    assert not silent.is_error and "print()" in text(silent)
    shown = await call(python_coder, "python_coder", {"code": "1 + 1"})
    assert not shown.is_error and text(shown) == "2\n"


async def test_deadline_of_the_caller_kills_the_job(python_coder: Running) -> None:
    begin = time.monotonic()
    result = await call(python_coder, "python_coder", SLEEP, remaining_s=0.7)
    assert time.monotonic() - begin < 5
    assert result.is_error and text(result) == "first\n[stopped: ran longer than 0.7 s]"
    assert not jobs_of(python_coder)


async def test_client_that_goes_away_does_not_extend_the_job(python_coder: Running) -> None:
    waiting = asyncio.ensure_future(call(python_coder, "python_coder", SLEEP, remaining_s=1.5))
    await asyncio.sleep(0.5)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert eventually(lambda: not jobs_of(python_coder))


async def test_busy_server_is_an_infrastructure_error(python_coder: Running) -> None:
    sleepers = [
        asyncio.ensure_future(call(python_coder, "python_coder", SLEEP, remaining_s=2.5))
        for _ in range(4)
    ]
    await asyncio.sleep(0.7)
    with pytest.raises(MCPError) as caught:
        await call(python_coder, "python_coder", {"code": "print(1)"}, remaining_s=0.3)
    assert caught.value.code == calls.SERVER_BUSY
    await asyncio.wait(sleepers)
    assert text(await call(python_coder, "python_coder", {"code": "print(1)"})) == "1\n"


async def test_program_cannot_reach_its_own_server(python_coder: Running) -> None:
    program = (
        f"import urllib.request; urllib.request.urlopen('{python_coder.url}/healthz', timeout=2)"
    )
    result = await call(python_coder, "python_coder", {"code": program})
    assert result.is_error
    assert "Connection refused" in text(result) or "unreachable" in text(result)


async def test_large_and_strange_programs_come_through(python_coder: Running) -> None:
    program = f"text = {'ü' * 300_000!r}\nprint(len(text), 'é ☃')"
    assert text(await call(python_coder, "python_coder", {"code": program})) == "300000 é ☃\n"


# the end of a server


async def test_told_to_end_it_ends_promptly_and_takes_its_jobs_along(
    launch: Callable[..., Running],
) -> None:
    running = launch(command("python_coder", *LIMITED))
    job = asyncio.ensure_future(call(running, "python_coder", SLEEP))
    assert await asyncio.to_thread(eventually, lambda: len(jobs_of(running)) == 1)
    jobs = descendants(running.pid)
    running.process.terminate()
    assert await asyncio.to_thread(running.process.wait, 2) == 0
    assert eventually(lambda: not alive(jobs), within=2)
    with pytest.raises(MCPError, match="shutting down"):
        await job


async def test_idle_search_server_ends_promptly(
    launch: Callable[..., Running], corpus: Path
) -> None:
    running = launch(command("wikipedia_search", "--corpus", str(corpus)))
    await call(running, "wikipedia_search", {"query": "Paris"})
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(2) == 0


async def test_killed_server_leaves_no_job_behind(launch: Callable[..., Running]) -> None:
    running = launch(command("python_coder", *LIMITED))
    many = {"code": f"{NAMED}for _ in range(3): os.fork()\ntime.sleep(60)"}
    waiting = [asyncio.ensure_future(call(running, "python_coder", many)) for _ in range(3)]
    assert await asyncio.to_thread(eventually, lambda: len(jobs_of(running)) == 3 * 8)
    jobs = descendants(running.pid)
    running.process.kill()
    assert await asyncio.to_thread(eventually, lambda: not alive(jobs))
    for call_ in waiting:
        call_.cancel()
    await asyncio.wait(waiting)


@pytest.mark.parametrize("name", ["python_coder", "wikipedia_search"])
def test_server_ends_with_its_parent(name: str, corpus: Path) -> None:
    needed = ["--corpus", str(corpus)] if name == "wikipedia_search" else []
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *command(name, "--exit-with-parent", *needed)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    line = json.loads(parent.stdout.readline())
    server = {process for process in descendants(parent.pid) if process[0] == line["pid"]}
    assert alive(server)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert eventually(lambda: not alive(server))


PARENT = "import subprocess, sys; subprocess.run(sys.argv[1:])"


def test_parent_that_is_gone_already_is_noticed(corpus: Path) -> None:
    line = command("wikipedia_search", "--corpus", str(corpus), "--exit-with-parent", "1999999999")
    ended = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr == "wikipedia_search: parent 1999999999 has ended\n"


# isolation that is not reached


def with_bwrap(folder: Path, script: str) -> dict[str, str]:
    """An environment in which ``bwrap`` is a script of ours, with the real one as ``$REAL``."""
    real = bubblewrap.find().binary
    file = folder / "bwrap"
    file.write_text(f"#!/bin/bash\nREAL={real}\n{textwrap.dedent(script)}")
    file.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("script", "says"),
    [
        pytest.param(
            """
            exec "$REAL" --ro-bind /etc /etc "$@"
            """,
            "the self-test got through: secrets",
            id="the host's /etc",
        ),
        pytest.param(
            """
            [ "$1" = --version ] && exec "$REAL" --version
            echo "bwrap: No permissions to create a new namespace" >&2; exit 1
            """,
            "does not start: ",
            id="bubblewrap refused",
        ),
    ],
)
def test_weaker_isolation_ends_the_server_with_one_line(
    tmp_path: Path, script: str, says: str
) -> None:
    environment = with_bwrap(tmp_path, script)
    ended = subprocess.run(
        command("python_coder"),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 3
    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert line.startswith("python_coder: isolation full was not reached, ") and says in line
    assert ended.stdout == ""


async def test_a_machine_that_is_too_busy_is_not_taken_for_one_without_isolation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def attack(_: Sandbox) -> list[selftest.Finding]:
        raise Busy("no sandbox was ready")

    monkeypatch.setattr(selftest, "attack", attack)
    with pytest.raises(SystemExit, match="3"):
        await python_coder_server.check(cast(Sandbox, None))
    shown = capsys.readouterr().err
    assert "too busy for the self-test: no sandbox was ready" in shown and "CAP_" not in shown


def test_there_is_no_isolation_to_switch_off(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        python_coder_server.main(["--isolation", "none"])
    assert ended.value.code == 2 and "invalid choice: 'none'" in capsys.readouterr().err
