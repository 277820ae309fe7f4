"""Where the seconds of a training step go: ``python -m tests.benchmarks.step RUN_DIR --json FILE``,
of a run that was made.

Needs the run's ``metrics-*.jsonl`` (verl's file logger) and its ``trajectories/``. ``rollout`` is
what the modules and tools of the step's slowest trajectory took, ``update`` what verl's
log-probabilities, reference, update and weight transfer took, and ``outside`` the rest: dispatch,
queues, polls, scoring, advantages, logs.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
from pathlib import Path

from agentflow_verl.flow.modules import MODULES
from agentflow_verl.trajectories.log import read_log

logger = logging.getLogger("step")
UPDATE = ("old_log_prob", "ref", "update_actor", "update_weights")


def shares(run: Path) -> dict[int, dict[str, float]]:
    """By step: its seconds, and the share of them that each part has."""
    metrics: dict[int, dict[str, float]] = {}
    for file in sorted(run.glob("metrics-*.jsonl")):
        for entry in map(json.loads, file.read_text().splitlines()):
            metrics.setdefault(entry["step"], {}).update(entry["data"])
    slowest: dict[int, float] = {}
    for scored in read_log(run / "trajectories", "train"):
        timings = scored.trajectory.timings
        slowest[scored.step] = max(
            slowest.get(scored.step, 0.0),
            sum(timings.get(part, 0.0) for part in (*MODULES, "tools")),
        )
    found = {}
    for step in sorted(metrics.keys() & slowest.keys()):
        seconds = metrics[step]["timing_s/step"]
        rollout, update = (
            slowest[step] / seconds,
            sum(metrics[step].get(f"timing_s/{part}", 0.0) for part in UPDATE) / seconds,
        )
        found[step] = {
            "seconds": seconds,
            "rollout": rollout,
            "update": update,
            "outside": 1.0 - rollout - update,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    found = shares(given.run)
    if not found:
        parser.error(f"{given.run} has no step with both metrics-*.jsonl and trajectories/train")
    for name in next(iter(found.values())):
        values = [step[name] for step in found.values()]
        logger.info(
            "%-8s median %.3f, largest %.3f, of %d steps",
            name,
            statistics.median(values),
            max(values),
            len(values),
        )
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
