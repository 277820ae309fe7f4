"""Tool calls under load: the part ``calls`` of tool_servers.py.

Three clients against the same servers. ``wire`` sends the same bytes over and over on a number of
connections and does no more than count: it measures the server. ``aiohttp`` posts them with
aiohttp. ``client`` is a ToolBox, as a rollout uses it: schema check, limits, circuit breaker,
deadline, JSON. Everything is taken in turns in one run, so that all meet the same machine. The
table has rounds of some seconds; the ratios come from short rounds of equally many calls, each set
against its neighbours, as medians. Seconds of CPU are those of one process, and hold up on a busy
machine better than rates.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.http_session import new_session
from agentflow_verl.tools.toolbox import ToolBox
from tests.benchmarks.tool_loads import Load, for_calls, for_seconds, posting, through, wire
from tests.benchmarks.tool_processes import WORDS, running

logger = logging.getLogger("tools")
CONCURRENCY = (1, 16, 64, 256)
AT = 64  # where the ratios are taken
PAIRED_ROUNDS, PAIRED_CALLS = 11, 1500
SETTLED_S = 5.0  # until every slot of the sandbox has its next one


@dataclass
class Measured:
    """What was measured of one kind of call at one concurrency, over all rounds."""

    rates: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    client_ms: list[float] = field(default_factory=list)
    server_ms: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        ordered = sorted(self.latencies)
        return {
            "calls": len(ordered),
            "per_s": statistics.median(self.rates),
            "p50_ms": 1e3 * ordered[len(ordered) // 2],
            "p99_ms": 1e3 * ordered[int(len(ordered) * 0.99)],
            "client_cpu_ms": statistics.median(self.client_ms),
            "server_cpu_ms": statistics.median(self.server_ms),
        }


async def measure(
    load: Load, concurrency: int, more: Callable[[], bool], server: psutil.Process, into: Measured
) -> None:
    """One round."""
    server_before, client_before = cpu_seconds(server), time.process_time()
    started = time.perf_counter()
    latencies = await load(concurrency, more)
    into.rates.append(len(latencies) / (time.perf_counter() - started))
    into.latencies += latencies
    into.client_ms.append(1e3 * (time.process_time() - client_before) / len(latencies))
    into.server_ms.append(1e3 * (cpu_seconds(server) - server_before) / len(latencies))


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def query(number: int) -> dict[str, str]:
    """Two words of the corpus, others each time."""
    return {"query": f"w{number * 7 % WORDS} w{number * 31 % WORDS}"}


async def compare(
    configs: dict[str, ToolConfig],
    processes: dict[str, psutil.Process],
    folder: Path,
    rounds: int,
    seconds: float,
) -> dict[str, dict]:
    """The table, and the ratios that the targets are about."""
    names = ("empty", "wikipedia_search", "python_coder")
    kept = configs["wikipedia_search"].model_copy(update={"cache_dir": str(folder / "cache")})
    async with contextlib.AsyncExitStack() as stack:
        tools = await stack.enter_async_context(
            await ToolBox.open([configs[name] for name in names])
        )
        cached = await stack.enter_async_context(await ToolBox.open([kept]))
        session = await stack.enter_async_context(new_session())
        kinds = {
            "json, wire": (wire(configs["json"]), processes["json"]),
            "empty, wire": (wire(configs["empty"]), processes["empty"]),
            "empty, aiohttp": (posting(session, configs["empty"]), processes["empty"]),
            "empty, client": (through(tools, "empty", lambda _: {"text": "x"}), processes["empty"]),
            "search, client": (
                through(tools, "wikipedia_search", query),
                processes["wikipedia_search"],
            ),
            "search, cached": (
                through(cached, "wikipedia_search", lambda n: query(n % 50)),
                processes["wikipedia_search"],
            ),
            "python, client": (
                through(tools, "python_coder", lambda n: {"code": f"print({n})"}),
                processes["python_coder"],
            ),
        }
        for load, _ in kinds.values():
            await load(AT, for_seconds(1))  # not counted
        cells = {(kind, concurrency): Measured() for kind in kinds for concurrency in CONCURRENCY}
        for _ in range(rounds):
            for (kind, concurrency), into in cells.items():
                load, server = kinds[kind]
                await measure(load, concurrency, for_seconds(seconds), server, into)
        side_by_side = {kind: Measured() for kind in tuple(kinds)[:4]}
        for _ in range(PAIRED_ROUNDS):
            for kind, into in side_by_side.items():
                load, server = kinds[kind]
                await measure(load, AT, for_calls(PAIRED_CALLS), server, into)
    table = {
        kind: {concurrency: cells[kind, concurrency].figures() for concurrency in CONCURRENCY}
        for kind in kinds
    }
    return {"table": table, "ratios": ratios(*side_by_side.values())}


def ratios(
    json_: Measured, empty: Measured, aiohttp_: Measured, client: Measured
) -> dict[str, float]:
    def median(ours: list[float], theirs: list[float]) -> float:
        return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))

    return {
        "empty_over_json_rate": median(empty.rates, json_.rates),
        "empty_over_json_server_cpu": median(empty.server_ms, json_.server_ms),
        "client_over_aiohttp_cpu": median(client.client_ms, aiohttp_.client_ms),
        "client_cpu_ms": statistics.median(client.client_ms),
    }


async def soak(
    configs: dict[str, ToolConfig], processes: dict[str, psutil.Process], seconds: float
) -> dict[str, dict]:
    """All tools at saturation; memory, descriptors, threads and children after a fifth of the time
    and at the end.
    """
    names = ("empty", "wikipedia_search", "python_coder")
    watched = {"client": psutil.Process(), **{name: processes[name] for name in names}}
    async with await ToolBox.open([configs[name] for name in names]) as tools:
        loads = [
            through(tools, "empty", lambda _: {"text": "x"}),
            through(tools, "wikipedia_search", query),
            through(tools, "python_coder", lambda number: {"code": f"print({number})"}),
        ]

        async def all_for(share: float) -> int:
            latencies = await asyncio.gather(
                *(load(AT, for_seconds(seconds * share)) for load in loads)
            )
            return sum(map(len, latencies))

        calls = await all_for(0.2)
        await asyncio.sleep(SETTLED_S)
        first = {name: held(process) for name, process in watched.items()}
        calls += await all_for(0.8)
    await asyncio.sleep(SETTLED_S)
    last = {name: held(process) for name, process in watched.items()}
    return {"seconds": seconds, "calls": calls, "after_a_fifth": first, "at_the_end": last}


def held(process: psutil.Process) -> dict[str, float]:
    family = (
        [process, *process.children(recursive=True)] if process != psutil.Process() else [process]
    )
    return {
        "rss_mb": sum(one.memory_info().rss for one in family) / 2**20,
        "descriptors": process.num_fds(),
        "threads": process.num_threads(),
        "processes": len(family),
    }


def run(rounds: int, seconds: float, soak_seconds: float) -> dict[str, dict]:
    """Start the servers and take every figure; ``rounds`` of 0 leaves the comparison out,
    ``soak_seconds`` of 0 the saturation.
    """
    cores = psutil.Process().cpu_affinity()
    try:
        with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as (configs, processes):
            found = (
                asyncio.run(compare(configs, processes, Path(folder), rounds, seconds))
                if rounds
                else {}
            )
            for kind, rows in found.get("table", {}).items():
                for concurrency, row in rows.items():
                    logger.info(
                        "%-24s %4d  %s",
                        kind,
                        concurrency,
                        "  ".join(f"{name} {value:.4g}" for name, value in row.items()),
                    )
            for name, value in found.get("ratios", {}).items():
                logger.info("%s %.3g", name, value)
            if soak_seconds:
                found["soak"] = asyncio.run(soak(configs, processes, soak_seconds))
                logger.info("%s", json.dumps(found["soak"], indent=2))
    finally:
        psutil.Process().cpu_affinity(cores)
    return found
