"""Short programs come first: what burns CPU steps back, multi-process jobs get time slices."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio

from tests.tool_servers.server_processes import descendants, eventually
from tool_servers.python_coder.inside.watcher import STEPS
from tool_servers.python_coder.sandbox import bubblewrap
from tool_servers.python_coder.sandbox.limits import Limits
from tool_servers.python_coder.sandbox.runner import Sandbox
from tool_servers.python_coder.sandbox.slots import claim_uids

NAMED = "import ctypes, os, time; ctypes.CDLL(None).prctl(15, b'fair-job')\n"
SERVER = os.getpriority(os.PRIO_PROCESS, 0)
LOWEST = min(SERVER + STEPS[0][1], 19)
FRESH = 1  # every program starts behind the server


@pytest.fixture(scope="module")
def uids() -> Iterator[Iterator[range | None]]:
    """Fresh ones for each test: limits are counted by them, and the last of a fork bomb's processes
    take their time to end.
    """
    if os.geteuid() != 0:
        yield itertools.repeat(None)
        return
    claimed, claim = claim_uids(64)
    with claim:
        yield (claimed[first : first + 4] for first in range(0, 64, 4))


@pytest_asyncio.fixture
async def sandbox(uids: Iterator[range | None]) -> AsyncIterator[Sandbox]:
    made = Sandbox(
        bubblewrap.find(),
        Limits(seconds=60.0, memory_mb=160, processes=32),
        2,
        next(uids),
        preload=(),
    )
    yield made
    await made.close()


T = TypeVar("T")


def of_jobs(look: Callable[[int], T]) -> list[T]:
    """What there is to see of each of the job's processes."""
    found = []
    for pid, _ in descendants(os.getpid()):
        try:
            if Path(f"/proc/{pid}/comm").read_text().strip() == "fair-job":
                found.append(look(pid))
        except OSError:
            pass  # it has ended
    return found


def ranks() -> list[int]:
    """Nice values of the job's processes."""
    return of_jobs(lambda pid: os.getpriority(os.PRIO_PROCESS, pid))


@pytest.mark.parametrize(
    ("program", "least"),
    [
        ("while True: pass", LOWEST),
        ("for _ in range(3): os.fork()\nwhile True: pass", LOWEST),
    ],
)
async def test_program_that_burns_cpu_steps_back_as_a_whole(
    sandbox: Sandbox, program: str, least: int
) -> None:
    running = asyncio.ensure_future(sandbox.run(NAMED + program))
    assert await asyncio.to_thread(
        eventually, lambda: bool(ranks()) and all(nice >= least for nice in ranks()), 30.0
    )
    running.cancel()
    await asyncio.wait({running})


async def test_fork_bomb_gets_what_nobody_else_wants(sandbox: Sandbox) -> None:
    bomb = "while True:\n  try: os.fork()\n  except OSError: pass"
    running = asyncio.ensure_future(sandbox.run(NAMED + bomb))

    def last() -> bool:
        found = ranks()
        return len(found) > 16 and all(nice == LOWEST for nice in found)

    assert await asyncio.to_thread(eventually, last, 30.0)
    running.cancel()
    await asyncio.wait({running})


async def test_crowd_steps_back_before_it_has_burnt_anything(sandbox: Sandbox) -> None:
    """Its forks and its ends take locks that those of all programs take: they must not be in each
    other's way.
    """
    running = asyncio.ensure_future(
        sandbox.run(NAMED + "for _ in range(3): os.fork()\ntime.sleep(60)")
    )
    assert await asyncio.to_thread(eventually, lambda: ranks() == [LOWEST] * 8, 30.0)
    running.cancel()
    await asyncio.wait({running})


def stopped() -> dict[str, bool]:
    """Of each job, by its namespace: whether all of its processes are stopped."""
    found: dict[str, list[str]] = {}
    states = of_jobs(
        lambda pid: (
            os.readlink(f"/proc/{pid}/ns/pid"),
            Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0],
        )
    )
    for namespace, state in states:
        found.setdefault(namespace, []).append(state)
    return {namespace: set(states) == {"T"} for namespace, states in found.items()}


async def test_crowds_take_turns_and_both_get_done(sandbox: Sandbox) -> None:
    crowd = (
        NAMED + "own = os.getpid()\nfor _ in range(3): os.fork()\nwhile time.process_time() < 0.3:"
        " pass\nif os.getpid() == own: print('done')"
    )
    running = [asyncio.ensure_future(sandbox.run(crowd)) for _ in range(2)]
    seen = set()
    while not all(task.done() for task in running):
        await asyncio.sleep(0.005)
        states = await asyncio.to_thread(stopped)
        if len(states) == 2:
            seen.add(frozenset(states.items()))
    first, second = {name for states in seen for name, _ in states}
    for one, other in ((first, second), (second, first)):
        assert frozenset({(one, True), (other, False)}) in seen, (
            "one is stopped while the other runs"
        )
    assert [(await task).output for task in running] == ["done\n"] * 2


async def test_turn_of_a_crowd_that_is_killed_passes_on(sandbox: Sandbox) -> None:
    endless = NAMED + "for _ in range(3): os.fork()\nwhile True: pass"
    killed = [
        asyncio.ensure_future(sandbox.run(endless, seconds=seconds)) for seconds in (1.0, 1.5)
    ]
    assert [(await task).status for task in killed] == ["timeout"] * 2
    crowd = "import os, time\nfor _ in range(3): os.fork()\ntime.sleep(0.3)\nprint(end='.')"
    assert set((await sandbox.run(crowd)).output) <= {"."}


async def test_crowd_that_is_none_any_more_goes_on(sandbox: Sandbox) -> None:
    crowd = (
        "import os, time\nfor _ in range(8):\n  if os.fork() == 0: time.sleep(0.5); os._exit(0)\n"
    )
    program = crowd + "for _ in range(8): os.wait()\ntime.sleep(0.3); print('alone')"
    assert (await sandbox.run(program)).output == "alone\n"


async def test_jobs_are_ranked_among_themselves_and_behind_what_forks_them(
    sandbox: Sandbox,
) -> None:
    """In one session: a kernel that schedules by session would give each of several the same,
    whatever its nice value.
    """
    running = asyncio.ensure_future(sandbox.run(NAMED + "time.sleep(60)"))
    assert await asyncio.to_thread(eventually, lambda: bool(ranks()), 30.0)
    ((job, session),) = of_jobs(lambda pid: (pid, os.getsid(pid)))
    zygote = int(Path(f"/proc/{job}/stat").read_text().rpartition(") ")[2].split()[1])
    assert session == zygote != os.getsid(0)
    may = (
        bubblewrap._may_set_priorities()
        and os.geteuid() == 0
        and os.sched_getscheduler(0) == os.SCHED_OTHER
    )
    assert os.sched_getscheduler(zygote) & ~os.SCHED_RESET_ON_FORK == (
        os.SCHED_RR if may else os.sched_getscheduler(0)
    )
    assert os.sched_getscheduler(job) == os.sched_getscheduler(0)
    running.cancel()
    await asyncio.wait({running})


async def test_program_that_waits_keeps_its_rank(sandbox: Sandbox) -> None:
    running = asyncio.ensure_future(sandbox.run(NAMED + "time.sleep(60)"))
    assert await asyncio.to_thread(eventually, lambda: bool(ranks()), 30.0)
    await asyncio.sleep(1.0)
    assert ranks() == [FRESH + SERVER]
    running.cancel()
    await asyncio.wait({running})
