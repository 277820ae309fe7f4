"""Logs for the viewer's tests: the recorded quickstart, and trajectories that follow a script."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from agentflow_verl.trajectories.log import ScoredTrajectory, TrajectoryLog
from agentflow_verl.trajectories.records import Trajectory
from tests.flow.fakes import ScriptedTools, flow

QUICKSTART = Path(__file__).parent / "quickstart"
RUN = QUICKSTART / "run-0"
CONTROL = QUICKSTART / "run-shuffled"


def lines(run: Path = RUN) -> list[dict[str, Any]]:
    """The log as plain JSON: what a page must agree with."""
    files = sorted(run.glob("trajectories/*/*/*.jsonl"))
    return [
        json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()
    ]


def groups(run: Path = RUN) -> dict[tuple[str, int, str], list[dict[str, Any]]]:
    """The log's lines by split, step and group, members by their number."""
    found: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for line in sorted(lines(run), key=lambda line: line["session"]):
        found.setdefault((line["split"], line["step"], line["group"]), []).append(line)
    return found


def trajectory(
    query: str = "What is 2 * 2?", tools: ScriptedTools | None = None, **script: Any
) -> Trajectory:
    """One of the real loop, with engines and tools that follow a script."""
    return asyncio.run(flow(tools, **script).run(query, "g_0"))


def scored(made: Trajectory, **fields: Any) -> ScoredTrajectory:
    usual = {
        "step": 1,
        "split": "train",
        "group": "g",
        "session": 0,
        "data_source": "scripts",
        "ground_truth": "4",
        "reward": 1.0,
    }
    return ScoredTrajectory(**{**usual, **fields}, trajectory=made)


def write(folder: Path, *rows: ScoredTrajectory) -> Path:
    """Append to the log of a run; the run's folder."""
    log = TrajectoryLog(folder / "trajectories")
    for row in rows:
        log.write(row)
    return folder


def tokenizer(path: Path, ids: int = 9000) -> Path:
    """One whose token n reads wn."""
    Tokenizer(WordLevel({f"w{token}": token for token in range(ids)}, unk_token="w0")).save(
        str(path)
    )
    return path
