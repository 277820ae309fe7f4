"""State kept between the calls of one trajectory, and of no other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.tool_servers.server_processes import alive, descendants, eventually
from tool_servers.python_coder.sandbox import bubblewrap
from tool_servers.python_coder.sandbox.limits import Busy, JobResult, Limits
from tool_servers.python_coder.sandbox.runner import Sandbox
from tool_servers.python_coder.sandbox.sessions import GONE, Sessions
from tool_servers.python_coder.sandbox.slots import claim_uids

SECONDS = 30.0


@pytest_asyncio.fixture
async def sessions() -> AsyncIterator[Sessions]:
    uids, claim = claim_uids(4) if os.geteuid() == 0 else (None, None)
    limits = Limits(seconds=SECONDS, memory_mb=160, processes=32, output_mb=1)
    sandbox = Sandbox(bubblewrap.find(), limits, 1, uids, preload=())
    await sandbox.run("pass")
    yield Sessions(sandbox, most=2, idle_s=60.0, uids=uids and uids[2:4])
    await sandbox.close()
    if claim:
        claim.close()


async def said(sessions: Sessions, trajectory: str, program: str) -> str:
    result = await sessions.run(trajectory, program)
    assert result.status == "ok", result
    return result.output


async def test_variables_files_and_imports_stay(sessions: Sessions) -> None:
    await said(sessions, "a", "import math\nx = [1]\nopen('/tmp/kept', 'w').write('text')")
    await said(sessions, "a", "x.append(math.pi)")
    assert (
        await said(sessions, "a", "print(x, open('/tmp/kept').read())")
        == "[1, 3.141592653589793] text\n"
    )


async def test_two_trajectories_share_nothing(sessions: Sessions) -> None:
    await said(sessions, "a", "x = 1; open('/tmp/kept', 'w').close()")
    assert (
        await said(sessions, "b", "import os; print('x' in globals(), os.listdir('/tmp'))")
        == "False []\n"
    )


async def test_program_that_raises_keeps_what_it_had(sessions: Sessions) -> None:
    result = await sessions.run("a", "x = 2\ndef half(n):\n    return n / 0\nhalf(x)")
    assert result.status == "error"
    assert (
        'File "call_1.py", line 3, in half\n    return n / 0\n' in result.output
        and GONE not in result.output
    )
    assert await said(sessions, "a", "print(x)") == "2\n"
    assert (await sessions.run("a", "exit(3)")).output == "[failed: exit code 3]"
    assert await said(sessions, "a", "print(x)") == "2\n"


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("import os; os._exit(4)", "error"),
        ("import ctypes; ctypes.string_at(0)", "error"),
        ("while True: pass", "timeout"),
        ("while True: print('x' * 10_000)", "output"),
        (
            (
                "import os, time\nfor _ in range(6):\n  if os.fork() == 0: held = b'x' * (60 <<"
                " 20); time.sleep(60)\ntime.sleep(60)"
            ),
            "memory",
        ),
    ],
)
async def test_what_ends_a_job_ends_its_state_and_the_caller_is_told(
    sessions: Sessions, program: str, status: str
) -> None:
    await said(sessions, "a", "x = 1")
    result: JobResult = await sessions.run(
        "a", program, seconds=2.0 if status == "timeout" else None
    )
    assert result.status == status and result.output.endswith(GONE)
    assert await said(sessions, "a", "print('x' in globals())") == "False\n"


async def test_forged_verdict_hurts_its_own_session_only(sessions: Sessions) -> None:
    forged = (
        "import os\nfor fd in range(3, 64):\n  try: os.write(fd, b'exit 0\\n' * 9)\n  except"
        " OSError: pass\nprint('mine')"
    )
    other = asyncio.ensure_future(
        said(sessions, "b", "import time; time.sleep(1); print('honest')")
    )
    await sessions.run("a", forged, seconds=3.0)
    assert await other == "honest\n"


async def test_fork_of_a_program_takes_no_call_of_its_trajectory(sessions: Sessions) -> None:
    assert (
        await said(
            sessions, "a", "import os\nx = 1\nif os.fork() == 0: x = 2\nelse: os.wait()\nprint(x)"
        )
        == "2\n1\n"
    )
    assert [await said(sessions, "a", "print(x)") for _ in range(5)] == ["1\n"] * 5


async def test_calls_of_one_trajectory_take_turns(sessions: Sessions) -> None:
    await said(sessions, "a", "n = 0")
    step = "import time; seen = n; time.sleep(0.1); n = seen + 1"
    await asyncio.gather(*(said(sessions, "a", step) for _ in range(5)))
    assert await said(sessions, "a", "print(n)") == "5\n"


async def test_session_that_was_ended_leaves_nothing_and_frees_its_slot(sessions: Sessions) -> None:
    await asyncio.sleep(1.0)  # until the slot of single programs is ready again
    before = descendants(os.getpid())
    for name in ("a", "b"):
        await said(sessions, name, "import os, time\nif os.fork() == 0: time.sleep(60)")
    with pytest.raises(Busy):
        await sessions.run("c", "pass", seconds=0.5)
    processes = descendants(os.getpid()) - before
    assert len(processes) == 6
    sessions.end("a")
    sessions.end("b")
    sessions.end("never begun")
    assert await asyncio.to_thread(eventually, lambda: not alive(processes))
    assert await said(sessions, "c", "print('begun')") == "begun\n"


async def test_session_without_calls_ends(sessions: Sessions) -> None:
    sessions._idle_s = 0.3
    await said(sessions, "a", "x = 1")
    await asyncio.sleep(1.0)
    assert await said(sessions, "a", "print('x' in globals())") == "False\n"


async def test_cancelled_call_ends_its_session(sessions: Sessions) -> None:
    await said(sessions, "a", "x = 1")
    task = asyncio.ensure_future(sessions.run("a", "import time; time.sleep(60)"))
    await asyncio.sleep(0.3)
    task.cancel()
    await asyncio.wait({task})
    assert await said(sessions, "a", "print('x' in globals())") == "False\n"
