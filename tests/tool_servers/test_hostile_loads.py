"""What a fuzzer of system calls and a stress tester do in a job stays in it: an honest program
beside them is answered rightly, and the machine is afterwards as it was.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from tests.tool_servers.random_calls import program as random_calls
from tests.tool_servers.sandbox_attacks import LIMITS
from tests.tool_servers.server_processes import Bait, descendants, eventually
from tests.tool_servers.test_sandbox import HONEST, HONEST_ANSWER, settled
from tool_servers.python_coder.sandbox import bubblewrap
from tool_servers.python_coder.sandbox.limits import JobResult
from tool_servers.python_coder.sandbox.runner import Sandbox
from tool_servers.python_coder.sandbox.slots import claim_uids

pytestmark = pytest.mark.asyncio(loop_scope="module")

STRESSES = (  # stress-ng's classes of stressors
    *("cpu", "cpu-cache", "device", "filesystem", "interrupt", "io", "memory"),
    *("network", "os", "pipe", "scheduler", "security", "vm"),
)


@pytest_asyncio.fixture(loop_scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    uids, claim = claim_uids(10) if os.geteuid() == 0 else (None, None)
    sandbox = Sandbox(bubblewrap.find(), LIMITS, jobs=5, uids=uids)
    await settled(sandbox)
    yield sandbox
    await sandbox.close()
    if claim is not None:
        claim.close()


def machine() -> dict[str, object]:
    """What a job that got at the machine would have changed."""
    settings = sorted(Path("/proc/sys/kernel").glob("[a-z]*"))
    unsteady = ("ns_last_pid", "pty", "random", "perf_event_max_sample_rate")
    seen: dict[str, object] = {}
    for path in settings:
        if path.is_file() and path.name not in unsteady and os.access(path, os.R_OK):
            seen[path.name] = path.read_bytes()
    seen["mounts"] = Path("/proc/mounts").read_text()
    seen["System V"] = Path("/proc/sysvipc/shm").read_text().count("\n")
    seen["clock"] = round(time.time() - time.monotonic())
    return seen


async def beside(sandbox: Sandbox, hostile: list[asyncio.Future[JobResult]]) -> list[float]:
    """Seconds of honest programs until the hostile ones are over."""
    took = []
    while not all(job.done() for job in hostile):
        started = time.monotonic()
        result = await sandbox.run(HONEST, limits=replace(LIMITS, seconds=60))
        assert (result.status, result.output) == ("ok", HONEST_ANSWER)
        took.append(time.monotonic() - started)
        await asyncio.sleep(0.05)
    return took


def said(took: list[float]) -> str:
    return f"{len(took)} honest programs, median {1e3 * statistics.median(took):.0f} ms"


@pytest.mark.parametrize(
    "rounds, seconds", [(1, 4.0), pytest.param(15, 20.0, marks=pytest.mark.slow)]
)
async def test_random_system_calls_stay_in_their_job(
    sandbox: Sandbox, bait: Bait, rounds: int, seconds: float
) -> None:
    before, secret = machine(), bait.file.read_text()
    limits = replace(LIMITS, seconds=seconds + 30)
    for number in range(rounds):
        programs = [random_calls(10_000 * (4 * number + n), seconds) for n in range(4)]
        jobs = [
            asyncio.ensure_future(sandbox.run(bait.names() + program, limits=limits))
            for program in programs
        ]
        took = await beside(sandbox, jobs)
        results = [job.result() for job in jobs]
        print(number, said(took), [result.output[-70:].strip() for result in results])
        assert any("calls" in result.output for result in results)
        assert all("seen" not in result.output for result in results)
    assert bait.file.read_text() == secret and not bait.reached()
    assert machine() == before
    assert (await sandbox.run(HONEST)).output == HONEST_ANSWER


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("stress-ng") is None, reason="needs Debian's stress-ng")
async def test_each_class_of_stressors_stays_in_its_job(sandbox: Sandbox) -> None:
    before, alone = machine(), []
    for _ in range(40):
        started = time.monotonic()
        assert (await sandbox.run(HONEST)).output == HONEST_ANSWER
        alone.append(time.monotonic() - started)
    print("alone:", said(alone))
    await settled(sandbox)
    processes = len(descendants(os.getpid()))
    for stress in STRESSES:
        program = (
            "import subprocess\nmade = subprocess.run(['stress-ng', '--class', "
            f"{stress!r}, '--sequential', '1', '--timeout', '1s', '--temp-path', '/tmp'],"
            " stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)\n"
            "print(made.stdout[-900:], made.returncode)"
        )
        limits = replace(LIMITS, seconds=60, memory_mb=512, disk_mb=64)
        job = asyncio.ensure_future(sandbox.run(program, limits=limits))
        took = await beside(sandbox, [job])
        result = job.result()
        print(stress, result.status, said(took), "|", " ".join(result.output.split())[-300:])
    await settled(sandbox)
    assert machine() == before
    assert await asyncio.to_thread(
        eventually, lambda: len(descendants(os.getpid())) <= processes, 30
    )
