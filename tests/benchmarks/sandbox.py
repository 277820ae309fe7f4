"""What a sandboxed program costs: ``python -m tests.benchmarks.sandbox --json FILE``.

Baselines and sandbox are timed in turns, so that all meet the same machine; trust the ratios.
``bare`` is ``python -I -S -c pass``; ``import`` is an interpreter that imports numpy and sympy;
``cold`` is a bubblewrap start of a bare interpreter with the sandbox's own namespaces and mounts,
so without seccomp, limits or imports; ``warm`` is a whole program in the sandbox, numpy and sympy
imported, from ``Sandbox.run`` to its result.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from tests.tool_servers.published_attacks import PUBLISHED
from tests.tool_servers.sandbox_attacks import ATTACKS, LIMITS
from tool_servers.python_coder.sandbox import bubblewrap
from tool_servers.python_coder.sandbox.limits import Limits
from tool_servers.python_coder.sandbox.runner import SANDBOXES_PER_JOB, Sandbox
from tool_servers.python_coder.sandbox.slots import claim_uids

logger = logging.getLogger("sandbox")
PROGRAM = "import numpy, sympy; print(sympy.Integer(6) * int(numpy.int64(7)))"
ANSWER = "42\n"
ATTACKERS = 16
STORM = (
    "fork bomb",
    "memory bomb, split",
    "memory bomb",
    "CPU loop",
    "stdout flood",
    "thread flood",
    "disk fill",
)
"""Attacks that use things up; the others take a millisecond each and disturb nobody."""

Start = Callable[[], Awaitable[object]]


async def command(*line: str) -> None:
    process = await asyncio.create_subprocess_exec(*line, env={"OPENBLAS_NUM_THREADS": "1"})
    if await process.wait():
        raise RuntimeError(f"{line[0]} ended with {process.returncode}")


def starts(sandbox: Sandbox) -> dict[str, Start]:
    """What is compared."""
    cold = sandbox.box.command()
    cold = [*cold[: cold.index("-c")], "-c", "pass"]

    async def warm() -> None:
        result = await sandbox.run(PROGRAM)
        if result.output != ANSWER:
            raise RuntimeError(f"the sandbox answered {result}")

    return {
        "bare": lambda: command(sys.executable, "-I", "-S", "-c", "pass"),
        "import": lambda: command(sys.executable, "-I", "-c", "import numpy, sympy"),
        "cold": lambda: command(*cold),
        "warm": warm,
    }


async def timed(start: Start) -> float:
    begin = time.perf_counter()
    await start()
    return time.perf_counter() - begin


async def latency(starts: dict[str, Start], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds, one at a time, each round one of each with a pause, so that the sandbox has one
    ready.
    """
    seconds: dict[str, list[float]] = {name: [] for name in starts}
    for _ in range(rounds):
        for name, start in starts.items():
            await asyncio.sleep(0.05)
            seconds[name].append(await timed(start))
    return {name: summary(values) for name, values in seconds.items()}


async def throughput(
    starts: dict[str, Start], concurrency: int, rounds: int, count: int
) -> dict[str, float]:
    """Starts a second, without a pause, median of rounds that take turns; ``count`` is many times
    what is ready beforehand.
    """
    rates: dict[str, list[float]] = {name: [] for name in starts}
    for _ in range(rounds):
        for name, start in starts.items():
            left = itertools.repeat(None, count)
            begin = time.perf_counter()
            await asyncio.gather(*(drain(start, left) for _ in range(concurrency)))
            rates[name].append(count / (time.perf_counter() - begin))
            await asyncio.sleep(
                1.0
            )  # the kernel takes network namespaces apart later: that is not the next one's work
    return {name: statistics.median(values) for name, values in rates.items()}


async def drain(start: Start, left: itertools.repeat) -> None:
    for _ in left:
        await start()


async def under_attack(
    sandbox: Sandbox, start: Start, rounds: int, programs: list[str]
) -> dict[str, dict[str, float]]:
    """Milliseconds of an honest program alone and beside sixteen attackers, who take the programs
    in turn; one that was stopped begins again, but no more than once a second: more is load, which
    throughput measures."""
    alone = [await paced(start) for _ in range(rounds)]
    left = itertools.cycle(programs)
    attackers = [asyncio.ensure_future(attack_on(sandbox, left)) for _ in range(ATTACKERS)]
    await asyncio.sleep(2.0)
    beside = [await paced(start) for _ in range(rounds)]
    for attacker in attackers:
        attacker.cancel()
    await asyncio.wait(attackers)
    return {"alone": summary(alone), "beside": summary(beside)}


async def paced(start: Start) -> float:
    await asyncio.sleep(0.05)
    return await timed(start)


async def attack_on(sandbox: Sandbox, programs: Iterator[str]) -> None:
    while True:
        await asyncio.gather(
            sandbox.run(next(programs), seconds=2.0), asyncio.sleep(1.0), return_exceptions=True
        )  # some find no slot


async def memory(sandbox: Sandbox, jobs: int) -> dict[str, float]:
    """MiB that the machine lends to an idle sandbox server's processes, shared pages counted once,
    and each ready sandbox's part of it."""
    await asyncio.sleep(2.0)
    shares, ready = (
        [share for pid in below(os.getpid()) if (share := proportional(pid)) is not None],
        SANDBOXES_PER_JOB * jobs,
    )
    return {
        "ready": ready,
        "all_mib": sum(shares),
        "each_mib": sum(sorted(shares)[: 2 * ready]) / ready,
    }


def below(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [one for child in map(int, children) for one in (child, *below(child))]
    return []


def proportional(pid: int) -> float | None:
    with contextlib.suppress(OSError, ValueError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))
    return None


def summary(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3
        for name, share in (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99))
    }


async def measure(rounds: int) -> dict[str, object]:
    jobs = ATTACKERS + 1
    uids, claim = claim_uids(SANDBOXES_PER_JOB * jobs) if os.geteuid() == 0 else (None, None)
    sandbox = Sandbox(bubblewrap.find(), Limits(memory_mb=LIMITS.memory_mb, seconds=60), jobs, uids)
    compared = starts(sandbox)
    try:
        await asyncio.gather(
            *(sandbox.run(PROGRAM) for _ in range(SANDBOXES_PER_JOB * jobs))
        )  # every slot has a sandbox ready
        await latency(compared, 2)
        found: dict[str, object] = {"latency": await latency(compared, rounds)}
        fast = {name: compared[name] for name in ("bare", "cold", "warm")}
        for concurrency in (1, 2, 16):
            found[f"per_second_at_{concurrency}"] = await throughput(
                fast, concurrency, 3, 4 * rounds
            )
        storm = [attack.program for attack in ATTACKS if attack.name in STORM]
        corpus = [attack.program for attack in (*ATTACKS, *PUBLISHED)]
        for name, programs in (("storm", storm), ("corpus", corpus)):
            found[name] = await under_attack(sandbox, compared["warm"], 5 * rounds, programs)
        found["memory"] = await memory(sandbox, jobs)
    finally:
        await sandbox.close()
        if claim is not None:
            claim.close()
    found["ratios"] = ratios(found)
    return found


def ratios(found: dict) -> dict[str, float]:
    p50 = {name: values["p50_ms"] for name, values in found["latency"].items()}
    return {
        "warm_over_bare_p50": p50["warm"] / p50["bare"],
        "import_over_warm_p50": p50["import"] / p50["warm"],
        **{
            f"warm_over_cold_per_second_at_{n}": rates["warm"] / rates["cold"]
            for n in (1, 2, 16)
            if (rates := found[f"per_second_at_{n}"])
        },
        "beside_over_alone_p99": (
            found["storm"]["beside"]["p99_ms"] / found["storm"]["alone"]["p99_ms"]
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="a fifth of the rounds")
    given = parser.parse_args()
    if given.quick:
        given.rounds //= 5
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    found = asyncio.run(measure(given.rounds))
    for name, values in found.items():
        logger.info("%s %s", name, json.dumps(values))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
