"""What a job can and cannot do, tried for real."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
import pytest_asyncio

from tests.tool_servers.published_attacks import PUBLISHED
from tests.tool_servers.sandbox_attacks import ATTACKS, LIMITS, MARK, Attack, as_expected
from tests.tool_servers.server_processes import Bait, alive, descendants, eventually
from tool_servers.python_coder.sandbox import bubblewrap, fork_server
from tool_servers.python_coder.sandbox.limits import Busy, JobResult, Limits, SandboxError
from tool_servers.python_coder.sandbox.runner import SANDBOXES_PER_JOB, Sandbox
from tool_servers.python_coder.sandbox.slots import claim_uids

HONEST = "print(sum(n for n in range(10_000) if n % 7 == 0))"
HONEST_ANSWER = "7142142\n"


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def uids() -> Iterator[range | None]:
    if os.geteuid() != 0:
        yield None
        return
    uids, claim = claim_uids(34)
    with claim:
        yield uids


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(uids: range | None) -> AsyncIterator[Sandbox]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(MARK, "seen")
        sandbox = Sandbox(bubblewrap.find(), LIMITS, jobs=17, uids=uids)
        await sandbox.run("pass", limits=Limits(seconds=60))
        yield sandbox
        await sandbox.close()


@pytest_asyncio.fixture(loop_scope="module")
async def one_slot(uids: range | None) -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(bubblewrap.find(), LIMITS, jobs=1, uids=uids, preload=())
    yield sandbox
    await sandbox.close()


async def run(sandbox: Sandbox, attack: Attack, bait: Bait) -> JobResult:
    # the names go on the first line, so that a job that is nothing but a syntax error stays one
    return await sandbox.run(
        bait.names() + attack.program, limits=replace(LIMITS, seconds=attack.seconds)
    )


async def settled(sandbox: Sandbox) -> None:
    """Wait until every slot has a sandbox that is ready."""
    slots = SANDBOXES_PER_JOB * sandbox.jobs
    await asyncio.gather(*(sandbox.run("pass") for _ in range(slots)))  # they are taken in turn
    while len(sandbox._ready) < slots:
        await asyncio.sleep(0.05)
    await asyncio.gather(*sandbox._ready.values())


@pytest.mark.parametrize("attack", [*ATTACKS, *PUBLISHED], ids=lambda attack: attack.name)
async def test_attack_ends_as_expected(sandbox: Sandbox, bait: Bait, attack: Attack) -> None:
    result = await run(sandbox, attack, bait)
    assert as_expected(attack, result), result
    assert not bait.reached()


async def test_sixteen_attackers_at_once_beside_an_honest_job(sandbox: Sandbox, bait: Bait) -> None:
    waiting, wrong, attackers = [*ATTACKS, *PUBLISHED], {}, 16
    tries: Counter[str] = Counter()

    async def attack_on() -> None:
        while waiting:
            attack = waiting.pop()
            try:
                result = await run(sandbox, attack, bait)
            except Busy:
                result = None
            if (
                result is None
                or attack.seconds < LIMITS.seconds
                and result.status == "timeout"
                and not result.output.startswith(attack.says)
            ):
                tries[attack.name] += 1  # on a busy machine its second is over before it began
                waiting.insert(0, attack)
                assert tries[attack.name] < 30
            elif not as_expected(attack, result):
                wrong[attack.name] = result

    attacking = asyncio.gather(*(attack_on() for _ in range(attackers)))
    honest = []
    while not attacking.done():
        honest.append(await sandbox.run(HONEST))
    await attacking
    assert not wrong
    assert {(result.status, result.output) for result in honest} == {("ok", HONEST_ANSWER)}
    assert len(honest) > 10
    assert not bait.reached()


async def test_nothing_is_left_of_jobs_that_ended(sandbox: Sandbox) -> None:
    await settled(sandbox)
    before = len(descendants(os.getpid()))
    for attack in ATTACKS:
        if attack.name in ("fork bomb", "daemon left behind", "memory bomb, split"):
            await sandbox.run(attack.program, limits=replace(LIMITS, seconds=attack.seconds))
    assert await asyncio.to_thread(eventually, lambda: len(descendants(os.getpid())) == before)


async def test_second_run_sees_no_residue(sandbox: Sandbox) -> None:
    program = """
import os
processes = [pid for pid in os.listdir("/proc") if pid.isdigit()]
print(sorted(os.listdir("/tmp")), sorted(os.listdir("/dev/shm")), len(processes))
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
    result = await sandbox.run(
        f"import {package}; print({package}.__name__)", limits=Limits(seconds=60)
    )
    assert (result.status, result.output) == ("ok", f"{package}\n")


async def test_output_of_a_stopped_job_is_kept(sandbox: Sandbox) -> None:
    result = await sandbox.run("print('so far'); import time; time.sleep(60)", seconds=1.0)
    assert result.output == "so far\n[stopped: ran longer than 1.0 s]"
    assert result.status == "timeout"


async def test_traceback_shows_the_program_and_nothing_of_the_launcher(sandbox: Sandbox) -> None:
    result = await sandbox.run("def half(n):\n    return n / 0\nhalf(4)")
    assert 'File "main.py", line 2, in half\n    return n / 0\n' in result.output
    assert "<string>" not in result.output


@pytest.mark.parametrize(
    "program, shown",
    [
        ("280 - 522", "-242\n"),
        ("x = 6\nx * 7", "42\n"),
        ("'a' + 'b'", "ab\n"),
        ("[n * n for n in range(3)]", "[0, 1, 4]\n"),
        ("def f():\n    return 5\nf()", "5\n"),
        ("import sympy\nsympy.gcd(276, 98)", "2\n"),
        ("print(1)\n2", "1\n"),  # what is printed is the program's own choice
        ("x = 2", ""),
        ("[].append(1)", ""),
        ("", ""),
    ],
)
async def test_the_value_of_the_last_line_is_shown_where_a_program_prints_nothing(
    sandbox: Sandbox, program: str, shown: str
) -> None:
    result = await sandbox.run(program)
    assert (result.status, result.output) == ("ok", shown)


async def test_an_error_in_the_last_line_is_a_traceback_as_anywhere(sandbox: Sandbox) -> None:
    result = await sandbox.run("x = 0\n1 / x")
    assert result.status == "error" and "line 2" in result.output
    assert "ZeroDivisionError" in result.output and "launcher" not in result.output


async def test_interpreter_of_a_job_is_as_if_new(sandbox: Sandbox) -> None:
    program = (
        "import random, numpy, sympy.core.random as of_sympy, sys; print(sys.argv, sys.path[0] !="
        " '', __name__)\n"
    )
    program += "print(random.random(), numpy.random.rand(), of_sympy.random())"
    first, second = [(await sandbox.run(program)).output.splitlines() for _ in range(2)]
    assert first[0] == second[0] == "['main.py'] True __main__"
    assert not set(first[1].split()) & set(second[1].split()), (
        "two jobs drew the same random numbers"
    )


async def test_what_an_interpreter_does_at_its_end_is_done(sandbox: Sandbox) -> None:
    program = """
import atexit, sys, threading, time
atexit.register(print, "last words")
threading.Thread(target=lambda: (time.sleep(0.2), print("thread done"))).start()
print("no line end", end="")
sys.exit("a reason")
"""
    result = await sandbox.run(program)
    assert result.output == "a reason\nno line endthread done\nlast words\n[failed: exit code 1]"


async def test_fork_server_that_dies_is_started_again(one_slot: Sandbox) -> None:
    assert (await one_slot.run(HONEST)).output == HONEST_ANSWER
    job = asyncio.ensure_future(one_slot.run("import time; time.sleep(60)"))
    await asyncio.sleep(0.5)
    os.kill((await one_slot._started_fork_server())._process.pid, signal.SIGKILL)
    assert (await job).status == "killed"
    assert (await one_slot.run(HONEST)).output == HONEST_ANSWER


async def test_sandbox_that_never_comes_up_holds_up_none_after_it(
    one_slot: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one_slot.run(HONEST)
    await settled(one_slot)
    monkeypatch.setattr(fork_server, "_START_S", 0.5)
    everything = descendants((await one_slot._started_fork_server())._process.pid)
    for pid, _ in everything:
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(SandboxError, match="not up after 0.5 s"):
        await one_slot.run(HONEST, limits=replace(LIMITS, seconds=20))
    for pid, _ in everything:
        with contextlib.suppress(ProcessLookupError):  # the sandbox that was ready
            os.kill(pid, signal.SIGCONT)
    monkeypatch.undo()
    assert (await one_slot.run(HONEST)).output == HONEST_ANSWER


async def test_descriptors_may_have_large_numbers(
    one_slot: Sandbox, many_descriptors: None
) -> None:
    for _ in range(2):
        assert (await one_slot.run(HONEST)).output == HONEST_ANSWER


async def test_program_ends_with_its_first_process_and_not_with_a_fork_of_it(
    sandbox: Sandbox,
) -> None:
    program = (
        "import os\nif os.fork() == 0:\n  print('child')\nelse:\n  os.wait(); print('parent');"
        " exit(3)"
    )
    result = await sandbox.run(program)
    assert (result.status, result.output) == ("error", "child\nparent\n[failed: exit code 3]")


async def test_as_many_as_run_can_start_at_once_when_all_end_together(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although not one sandbox is made meanwhile."""
    await settled(sandbox)
    never = asyncio.get_running_loop().create_future()
    with monkeypatch.context() as halted:
        halted.setattr(Sandbox, "_prepare", lambda *_: never)
        for _ in range(SANDBOXES_PER_JOB):
            results = await asyncio.gather(*(sandbox.run(HONEST) for _ in range(sandbox.jobs)))
            assert {result.output for result in results} == {HONEST_ANSWER}
        with pytest.raises(Busy, match="slots were busy"):
            await sandbox.run(HONEST, seconds=0.2)
    for slot in list(sandbox._ready):
        del sandbox._ready[slot]
    never.cancel()
    assert (await sandbox.run(HONEST)).output == HONEST_ANSWER


async def test_import_that_fails_is_named(uids: range | None) -> None:
    sandbox = Sandbox(bubblewrap.find(), LIMITS, jobs=1, uids=uids, preload=("no_such_package",))
    with pytest.raises(SandboxError, match="No module named 'no_such_package'"):
        await sandbox.run(HONEST)
    await sandbox.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's jobs have a user namespace each")
async def test_root_without_user_ids_for_jobs_is_refused() -> None:
    with pytest.raises(SandboxError, match="claim_uids"):
        Sandbox(bubblewrap.find(), LIMITS, jobs=1)


async def test_waiting_for_a_slot_counts_against_the_deadline(one_slot: Sandbox) -> None:
    await one_slot.run(HONEST)
    first = asyncio.ensure_future(one_slot.run("import time; time.sleep(60)", seconds=1.5))
    await asyncio.sleep(0.1)
    with pytest.raises(Busy):
        await one_slot.run(HONEST, seconds=0.3)
    assert (await first).status == "timeout"
    assert (await one_slot.run(HONEST)).output == HONEST_ANSWER, "the slot is lost"


async def test_cancelling_kills_the_job_and_frees_its_slot(
    sandbox: Sandbox, one_slot: Sandbox
) -> None:
    await settled(sandbox)
    others = descendants(os.getpid())
    endless = replace(LIMITS, output_mb=1 << 20)
    for program in ("import time; time.sleep(60)", "while True: print('x' * 1000)"):
        for delay in (0.0, 0.02, 0.3, 1.0):
            task = asyncio.ensure_future(one_slot.run(program, limits=endless))
            waiting = asyncio.ensure_future(one_slot.run(program, limits=endless))
            await asyncio.sleep(delay)
            task.cancel()
            waiting.cancel()
            await asyncio.wait({task, waiting})
            assert task.cancelled() and waiting.cancelled()
    assert (await one_slot.run(HONEST)).output == HONEST_ANSWER
    await settled(one_slot)
    left = 3 + 2 * SANDBOXES_PER_JOB  # the fork server, and the sandboxes that are ready
    assert await asyncio.to_thread(
        eventually, lambda: len(descendants(os.getpid()) - others) == left
    )


async def test_closing_ends_running_jobs_and_takes_no_more(
    sandbox: Sandbox, one_slot: Sandbox
) -> None:
    await settled(sandbox)
    others = descendants(os.getpid())
    await one_slot.run(HONEST)  # it is up
    job = asyncio.ensure_future(one_slot.run("import time; time.sleep(60)"))
    await asyncio.sleep(1.0)
    await one_slot.close()
    assert (await job).status == "killed"
    assert await asyncio.to_thread(eventually, lambda: not alive(descendants(os.getpid()) - others))
    with pytest.raises(SandboxError, match="shutting down"):
        await one_slot.run(HONEST)


async def test_no_descriptor_is_left_open(sandbox: Sandbox) -> None:
    await settled(sandbox)
    before = os.listdir("/proc/self/fd")
    for _ in range(5):
        await sandbox.run(HONEST)
    await sandbox.run("import time; time.sleep(9)", seconds=0.2)
    await settled(sandbox)
    assert await asyncio.to_thread(
        eventually, lambda: len(os.listdir("/proc/self/fd")) <= len(before)
    )
