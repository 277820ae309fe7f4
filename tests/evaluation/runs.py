"""``agentflow eval`` as the tests call it, and what it left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path


def arguments(model, echo, data: Path, out: Path, *more: str) -> list[str]:
    return [
        "eval",
        "--benchmarks",
        "sums,facts",
        "--data",
        str(data),
        "--endpoint",
        model.url,
        "--tool",
        f"echo={echo.url}",
        "--trials",
        "2",
        "--seed",
        "7",
        "--out",
        str(out),
        *more,
    ]


def report(out: Path) -> dict:
    return json.loads((out / "report.json").read_text())


def without_times(found: dict) -> dict:
    """A report's figures but for what two runs of the same thing may differ in."""
    for row in (*found["benchmarks"].values(), found["overall"]):
        for name in ("seconds", "seconds_of_each_part"):
            del row[name]
    del found["header"]["sessions"]
    return found


def stopped(given: list[str], out: Path, sent: int) -> int:
    """How a run ended that got a signal after its fifth trajectory."""
    log = out.with_name(f"{out.name}.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "agentflow_verl.cli.main", *given], stdout=output, stderr=output
        )
    while sum(path.read_text().count("\n") for path in out.glob("trajectories/**/*.jsonl")) < 5:
        assert process.poll() is None, log.read_text()
        time.sleep(0.01)
    os.kill(process.pid, sent)
    return process.wait(60)
