"""A trajectory with its outcome reward: what the log holds and what reports and viewers read."""

from __future__ import annotations

from typing import Any

from agentflow_verl.flow.records import Record, Trajectory


class ScoredTrajectory(Record):
    """One line of the trajectory log."""

    step: int
    split: str  # "train" or "val"
    group: str  # the prompt's uid
    session: int  # the trajectory's number in its group
    data_source: str
    ground_truth: Any = None
    reward: float | None = None  # None: not scored, an infrastructure fault
    scores: dict[str, Any] = {}
    trajectory: Trajectory
