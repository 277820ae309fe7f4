"""What a job can and cannot do, tried for real."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sandbox_attacks import ATTACKS, LIMITS, MARK, Attack
from server_processes import Bait, alive, descendants, eventually

from tool_servers.python_coder import bubblewrap
from tool_servers.python_coder.limits import Busy, JobResult, Limits, SandboxError
from tool_servers.python_coder.process import Output
from tool_servers.python_coder.sandbox import Sandbox, claim_uids

HONEST = "print(sum(n for n in range(10_000) if n % 7 == 0))"
HONEST_ANSWER = "7142142\n"


@pytest.fixture(scope="module")
def uids() -> Iterator[range | None]:
    if os.geteuid() != 0:
        yield None
        return
    uids, claim = claim_uids(8)
    with claim:
        yield uids


@pytest.fixture
def sandbox(uids: range | None) -> Sandbox:
    return Sandbox(bubblewrap.find(), LIMITS, jobs=8, uids=uids)


async def run(sandbox: Sandbox, attack: Attack, bait: Bait) -> JobResult:
    # the names go on the first line, so that a job that is nothing but a syntax error stays one
    return await sandbox.run(bait.names() + attack.program, limits=replace(LIMITS, seconds=attack.seconds))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_attack_ends_as_expected(
    sandbox: Sandbox, bait: Bait, monkeypatch: pytest.MonkeyPatch, attack: Attack
) -> None:
    others = descendants(os.getpid())  # other tests' helpers, such as the maths scorer's worker
    monkeypatch.setenv(MARK, "seen")
    result = await run(sandbox, attack, bait)
    assert attack.says in result.output
    assert attack.status in (result.status, "*"), result.output
    assert not {"seen in", "escaped", "a secret", "open "} & {result.output[:8], *result.output.split("\n")}
    assert not bait.reached()
    assert not descendants(os.getpid()) - others


async def test_honest_job_beside_attackers_gets_its_answer(sandbox: Sandbox, bait: Bait) -> None:
    worst = [
        attack for attack in ATTACKS if attack.name in ("fork bomb", "memory bomb, split", "stderr flood", "CPU loop")
    ]
    assert len(worst) == 4
    attackers = [asyncio.ensure_future(run(sandbox, attack, bait)) for attack in worst]
    await asyncio.sleep(0.2)
    results = [await sandbox.run(HONEST) for _ in range(3)]
    assert [(result.status, result.output) for result in results] == [("ok", HONEST_ANSWER)] * 3
    assert [result.status for result in await asyncio.gather(*attackers)] == [attack.status for attack in worst]


async def test_second_run_sees_no_residue(sandbox: Sandbox) -> None:
    program = """
import os
print(sorted(os.listdir("/tmp")), sorted(os.listdir("/dev/shm")), len([pid for pid in os.listdir("/proc") if pid.isdigit()]))
import builtins, sys
print(hasattr(builtins, "left"))
builtins.left = 1
for place in ("/tmp/left", "/dev/shm/left"): open(place, "w").write("x")
"""
    first, second = [await sandbox.run(program) for _ in range(2)]
    assert first.output == second.output == "[] [] 2\nFalse\n"


async def test_jobs_at_once_have_processes_and_files_of_their_own(sandbox: Sandbox) -> None:
    program = """
import os, time
open("/tmp/mine", "x").close()
children = 0
try:
    while True:
        if os.fork() == 0: time.sleep(60); os._exit(0)
        children += 1
except OSError: time.sleep(0.5)
print(children)
os._exit(0)
"""
    results = await asyncio.gather(*(sandbox.run(program) for _ in range(4)))
    counts = [int(result.output) for result in results]
    assert min(counts) >= LIMITS.processes - 4, "jobs starve each other"
    assert max(counts) <= LIMITS.processes


@pytest.mark.parametrize("package", ["numpy", "sympy"])
async def test_packages_of_the_server_can_be_imported(sandbox: Sandbox, package: str) -> None:
    pytest.importorskip(package)
    result = await sandbox.run(f"import {package}; print({package}.__name__)", limits=Limits(seconds=60))
    assert (result.status, result.output) == ("ok", f"{package}\n")


async def test_output_of_a_stopped_job_is_kept(sandbox: Sandbox) -> None:
    result = await sandbox.run("print('so far'); import time; time.sleep(60)", seconds=1.0)
    assert result.output == "so far\n[stopped: ran longer than 1.0 s]"
    assert result.status == "timeout"


async def test_traceback_shows_the_program_and_nothing_of_the_launcher(sandbox: Sandbox) -> None:
    result = await sandbox.run("def half(n):\n    return n / 0\nhalf(4)")
    assert 'File "main.py", line 2, in half\n    return n / 0\n' in result.output
    assert "<string>" not in result.output


async def test_waiting_for_a_slot_counts_against_the_deadline(uids: range | None) -> None:
    sandbox = Sandbox(bubblewrap.find(), LIMITS, jobs=1, uids=uids)
    first = asyncio.ensure_future(sandbox.run("import time; time.sleep(60)", seconds=1.5))
    await asyncio.sleep(0.1)
    with pytest.raises(Busy):
        await sandbox.run(HONEST, seconds=0.3)
    assert (await first).status == "timeout"
    assert (await sandbox.run(HONEST)).output == HONEST_ANSWER, "the slot is lost"


async def test_cancelling_kills_the_job_and_frees_its_slot(uids: range | None) -> None:
    sandbox, others = Sandbox(bubblewrap.find(), LIMITS, jobs=1, uids=uids), descendants(os.getpid())
    endless = replace(LIMITS, output_mb=1 << 20)
    for program in ("import time; time.sleep(60)", "while True: print('x' * 1000)"):
        for delay in (0.0, 0.02, 0.3):
            task = asyncio.ensure_future(sandbox.run(program, limits=endless))
            waiting = asyncio.ensure_future(sandbox.run(program, limits=endless))
            await asyncio.sleep(delay)
            task.cancel()
            waiting.cancel()
            await asyncio.wait({task, waiting})
            assert task.cancelled() and waiting.cancelled()
            assert eventually(lambda: not alive(descendants(os.getpid()) - others))
    assert (await sandbox.run(HONEST)).output == HONEST_ANSWER


async def test_closing_ends_running_jobs_and_takes_no_more(sandbox: Sandbox) -> None:
    job = asyncio.ensure_future(sandbox.run("import time; time.sleep(60)"))
    await asyncio.sleep(0.3)
    await sandbox.close()
    assert (await job).status == "killed"
    with pytest.raises(SandboxError, match="shutting down"):
        await sandbox.run(HONEST)


async def test_no_descriptor_is_left_open(sandbox: Sandbox) -> None:
    await sandbox.run(HONEST)
    before = os.listdir("/proc/self/fd")
    for _ in range(5):
        await sandbox.run(HONEST)
    await sandbox.run("import time; time.sleep(9)", seconds=0.2)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_two_servers_take_different_user_ids() -> None:
    (one, first), (two, second) = claim_uids(4), claim_uids(4)
    with first, second:
        assert not set(one) & set(two)


def test_output_keeps_both_ends_and_says_what_is_gone() -> None:
    output = Output(shown=40)
    for number in range(100):
        output.add(f"{number:03d} ".encode())
    assert output.text() == "000 001 00\n[... 360 bytes left out ...]\n2 093 094 095 096 097 098 099 "
    assert output.total == 400
