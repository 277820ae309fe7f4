"""Short programs come first: what burns CPU steps back, and a program of many processes weighs no more than one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from server_processes import descendants, eventually

from tool_servers.python_coder import bubblewrap
from tool_servers.python_coder.inside.watch import STEPS
from tool_servers.python_coder.limits import Limits
from tool_servers.python_coder.sandbox import Sandbox
from tool_servers.python_coder.slots import claim_uids

NAMED = "import ctypes, os, time; ctypes.CDLL(None).prctl(15, b'fair-job')\n"
FRESH = 5  # every program starts behind the server


@pytest_asyncio.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    uids, claim = claim_uids(1) if os.geteuid() == 0 else (None, None)
    made = Sandbox(bubblewrap.find(), Limits(seconds=60.0, memory_mb=160, processes=32), 1, uids, preload=())
    yield made
    await made.close()
    if claim:
        claim.close()


def ranks() -> list[tuple[int, int]]:
    """Scheduling policy and nice value of the job's processes."""
    found = []
    for pid, _ in descendants(os.getpid()):
        try:
            if Path(f"/proc/{pid}/comm").read_text().strip() == "fair-job":
                found.append((os.sched_getscheduler(pid), os.getpriority(os.PRIO_PROCESS, pid)))
        except OSError:
            pass  # it has ended
    return found


@pytest.mark.parametrize(
    ("program", "least"),
    [
        ("while True: pass", STEPS[0][1]),
        ("for _ in range(3): os.fork()\nwhile True: pass", 19),  # eight processes, ten steps of the weight
    ],
)
async def test_program_that_burns_cpu_steps_back_as_a_whole(sandbox: Sandbox, program: str, least: int) -> None:
    running = asyncio.ensure_future(sandbox.run(NAMED + program))
    assert await asyncio.to_thread(eventually, lambda: bool(ranks()) and all(nice >= least for _, nice in ranks()), 30.0)
    running.cancel()
    await asyncio.wait({running})


async def test_fork_bomb_gets_what_nobody_else_wants(sandbox: Sandbox) -> None:
    bomb = "while True:\n  try: os.fork()\n  except OSError: pass"
    running = asyncio.ensure_future(sandbox.run(NAMED + bomb))

    def idle() -> bool:
        found = ranks()
        return len(found) > 16 and all(policy == os.SCHED_IDLE for policy, _ in found)

    assert await asyncio.to_thread(eventually, idle, 30.0)
    running.cancel()
    await asyncio.wait({running})


async def test_program_that_waits_keeps_its_rank(sandbox: Sandbox) -> None:
    running = asyncio.ensure_future(sandbox.run(NAMED + "time.sleep(60)"))
    assert await asyncio.to_thread(eventually, lambda: bool(ranks()), 30.0)
    await asyncio.sleep(1.0)
    assert [nice for _, nice in ranks()] == [FRESH + os.getpriority(os.PRIO_PROCESS, 0)]
    running.cancel()
    await asyncio.wait({running})
