"""What a rollout costs beside its models and tools: ``python -m tests.benchmarks.rollout --json
FILE``.

Trajectories of three turns, 14 calls each, against one server process that stands for every engine
and tool and waits a seeded time before each answer. ``flow`` is the real flow over
``EndpointEngine`` and ``ToolBox``; ``bare`` posts the same requests in the same order with aiohttp
and reads the JSON, nothing more. Both are taken in turns in one run, so that they meet the same
machine; seconds of CPU are those of the client's process. The ideal wall time is that of the same
number of slots which take the same waits one trajectory after the other and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import heapq
import json
import logging
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from agentflow_verl.config.endpoint import EndpointConfig
from agentflow_verl.config.limits import Limits
from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core import gc_tuning as garbage
from agentflow_verl.engines.openai_endpoint import EndpointEngine
from agentflow_verl.flow.loop import Flow
from agentflow_verl.flow.modules import MODULES
from agentflow_verl.tools.toolbox import ToolBox
from agentflow_verl.trajectories.records import Outcome
from tests.benchmarks.rollout_server import CALLS, TURNS, simulated, wait_of

logger = logging.getLogger("rollout")
CONCURRENCY = (1, 16, 64, 256, 1024)
MEDIAN_S = 0.3
AT = 256  # where the targets stand

Trajectory = Callable[[int], Awaitable[None]]
"""Makes trajectory ``number``."""


@dataclass
class Measured:
    """One kind of client at one concurrency, a figure a round."""

    cpu_ms: list[float] = field(default_factory=list)  # a trajectory
    per_s: list[float] = field(default_factory=list)
    beyond_s: list[float] = field(default_factory=list)  # of the wall time, past the ideal
    over_ideal: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        return {name: statistics.median(values) for name, values in vars(self).items() if values}


def ideal_s(median_s: float, count: int, slots: int) -> float:
    """The wall time of ``count`` trajectories in ``slots`` slots where only the waits take time."""
    free = [0.0] * slots
    for number in range(count):
        heapq.heapreplace(
            free, free[0] + sum(wait_of(median_s, number, call) for call in range(len(CALLS)))
        )
    return max(free)


async def measure(
    make: Trajectory, median_s: float, count: int, slots: int, into: Measured
) -> None:
    """One round: trajectories 0 to ``count``, at most ``slots`` at once."""
    numbers = iter(range(count))

    async def slot() -> None:
        for number in numbers:
            await make(number)

    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(slot() for _ in range(slots)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    into.cpu_ms.append(1e3 * cpu / count)
    into.per_s.append(count / wall)
    if median_s:
        ideal = ideal_s(median_s, count, slots)
        into.beyond_s.append(wall - ideal)
        into.over_ideal.append(wall / ideal)


def through_the_flow(url: str, session: aiohttp.ClientSession, tools: ToolBox) -> Trajectory:
    engine = EndpointEngine(
        "simulated",
        EndpointConfig(base_url=f"{url}/v1", model="m", concurrency=max(CONCURRENCY)),
        session,
    )
    flow = Flow(dict.fromkeys(MODULES, engine), tools, Limits(max_turns=TURNS))

    async def make(number: int) -> None:
        trajectory = await flow.run(
            f"In which year was #{number}# first printed, and where?", str(number)
        )
        assert trajectory.outcome is Outcome.ANSWERED and len(trajectory.turns) == TURNS, (
            trajectory.error
        )

    return make


async def requests_of(
    make: Callable[[aiohttp.ClientSession], Awaitable[None]],
) -> list[tuple[str, dict[str, str], dict[str, Any]]]:
    """What one trajectory sends, in order: URL, headers, JSON."""
    sent: list[list[Any]] = []
    trace = aiohttp.TraceConfig()

    async def start(_: Any, __: Any, params: aiohttp.TraceRequestStartParams) -> None:
        sent.append([str(params.url), dict(params.headers), b""])

    async def chunk(_: Any, __: Any, params: aiohttp.TraceRequestChunkSentParams) -> None:
        sent[-1][2] += params.chunk

    trace.on_request_start.append(start)
    trace.on_request_chunk_sent.append(chunk)
    async with aiohttp.ClientSession(trace_configs=[trace]) as session:
        await make(session)
    return [(url, headers, json.loads(body)) for url, headers, body in sent if b"#0#" in body]


def bare(
    session: aiohttp.ClientSession, requests: list[tuple[str, dict[str, str], dict[str, Any]]]
) -> Trajectory:
    async def make(number: int) -> None:
        for url, headers, body in requests:
            if "messages" in body:
                system, user = body["messages"]
                user = {**user, "content": user["content"].replace("#0#", f"#{number}#")}
                body = {**body, "messages": [system, user]}
            else:
                arguments = {**body["params"]["arguments"], "query": f"#{number}# first paragraph"}
                body = {**body, "params": {**body["params"], "arguments": arguments}}
            async with session.post(url, json=body, headers=headers) as response:
                assert await response.json()

    return make


async def compare(url: str, median_s: float, counts: dict[int, int], rounds: int) -> dict[str, Any]:
    """Both clients at each concurrency, in turns; and the ratios of neighbours, as medians."""
    config = ToolConfig(name="simulated", urls=(f"{url}/mcp",), concurrency=max(CONCURRENCY))

    async def one(session: aiohttp.ClientSession) -> None:
        async with await ToolBox.open([config], session) as tools:
            await through_the_flow(url, session, tools)(0)

    requests = await requests_of(one)
    assert len(requests) == len(CALLS)
    cells = {(kind, slots): Measured() for slots in counts for kind in ("flow", "bare")}
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        await ToolBox.open([config]) as tools,
    ):
        kinds = {"flow": through_the_flow(url, session, tools), "bare": bare(session, requests)}
        for make in kinds.values():
            await measure(make, 0.0, 32, 32, Measured())  # not counted
        for number in range(1, rounds + 1):
            for (kind, slots), into in cells.items():
                logger.info("round %d of %d: %s, %d at once", number, rounds, kind, slots)
                await measure(kinds[kind], median_s, counts[slots], slots, into)
    ratios = {
        slots: statistics.median(
            one / other
            for one, other in zip(
                cells["flow", slots].cpu_ms, cells["bare", slots].cpu_ms, strict=True
            )
        )
        for slots in counts
    }
    return {
        "table": {
            kind: {slots: cells[kind, slots].figures() for slots in counts} for kind in kinds
        },
        "cpu_over_bare": ratios,
    }


def report(name: str, found: dict[str, Any]) -> None:
    for kind, rows in found["table"].items():
        for slots, row in rows.items():
            logger.info(
                "%-9s %-5s %5d at once  %s",
                name,
                kind,
                slots,
                "  ".join(f"{key} {value:.4g}" for key, value in row.items()),
            )
    logger.info(
        "%-9s CPU over bare: %s",
        name,
        "  ".join(f"{slots}: {ratio:.2f}" for slots, ratio in found["cpu_over_bare"].items()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument(
        "--rounds", type=int, default=5, help="without waits; with them a third of it"
    )
    parser.add_argument("--quick", action="store_true", help="16 and 256 at once, without waits")
    parser.add_argument(
        "--defaults", action="store_true", help="leave the garbage collector as Python sets it"
    )
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not given.defaults:
        garbage.settle()  # as a worker does when it starts
    found: dict[str, Any] = {"load_before": os.getloadavg()}
    plan = (
        (
            "no waits",
            0.0,
            {
                slots: max(64, min(512, 2 * slots)) if slots < 1024 else 1024
                for slots in CONCURRENCY
            },
            given.rounds,
        ),
        ("waits", MEDIAN_S, {slots: 2 * slots for slots in CONCURRENCY}, -(-given.rounds // 3)),
    )
    if given.quick:
        plan = (("no waits", 0.0, {16: 128, AT: 2 * AT}, 3),)
    for name, median_s, counts, rounds in plan:
        with simulated(median_s) as url:
            found[name] = asyncio.run(compare(url, median_s, counts, rounds))
        report(name, found[name])
    if given.quick:
        return
    cpu = {slots: row["cpu_ms"] for slots, row in found["no waits"]["table"]["flow"].items()}
    found["targets"] = {
        "wall over ideal, at most 1.10": found["waits"]["table"]["flow"][AT]["over_ideal"],
        "CPU over bare, at most 2.5": found["no waits"]["cpu_over_bare"][AT],
        "CPU of a trajectory at 1024 over 16, at most 1.20": cpu[1024] / cpu[16],
    }
    found["load_after"] = os.getloadavg()
    logger.info("%s", json.dumps(found["targets"], indent=2))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
