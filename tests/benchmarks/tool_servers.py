"""Every figure of the tool servers: ``python -m tests.benchmarks.tool_servers --json FILE [--only
calls|sandbox]``.

``calls`` is tools.py, calls over HTTP; ``sandbox`` is sandbox.py, programs without it. How the run
itself was scheduled stands beside them: at idle priority, or in a group of its own behind others,
whatever waits for the machine is slow.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
from pathlib import Path

from tests.benchmarks import sandbox, tools

logger = logging.getLogger("tool_servers")
POLICIES = {os.SCHED_OTHER: "normal", os.SCHED_BATCH: "batch", os.SCHED_IDLE: "idle"}


def scheduling() -> dict[str, object]:
    """Of this process: its policy, the niceness of its group where the kernel has autogroups, load
    of the machine.
    """
    found = {
        "policy": POLICIES.get(os.sched_getscheduler(0), "real time"),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
    }
    with contextlib.suppress(OSError):
        found["autogroup_nice"] = int(Path("/proc/self/autogroup").read_text().split()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--only", choices=("calls", "sandbox"))
    parser.add_argument("--rounds", type=int, default=3, help="of calls; 0 for none")
    parser.add_argument("--seconds", type=float, default=1.5, help="of a round of calls")
    parser.add_argument("--starts", type=int, default=100, help="rounds of the sandbox")
    parser.add_argument(
        "--soak", type=float, default=0.0, help="seconds of calls at saturation afterwards"
    )
    parser.add_argument("--quick", action="store_true", help="the ratios in under two minutes")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.seconds, given.starts = 1, 0.3, 20
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("agentflow_verl").setLevel(logging.WARNING)
    found: dict[str, object] = {"scheduling": {"before": scheduling()}}
    if given.only != "sandbox":
        found["calls"] = tools.run(given.rounds, given.seconds, given.soak)
    if given.only != "calls":
        found["sandbox"] = asyncio.run(sandbox.measure(given.starts))
        for name, values in found["sandbox"].items():
            logger.info("%s %s", name, json.dumps(values))
    found["scheduling"]["after"] = scheduling()
    logger.info("scheduling %s", json.dumps(found["scheduling"]))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
