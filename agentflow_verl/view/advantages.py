"""The advantage that a logged trajectory was trained with.

What flow_grpo/algorithm.py does with tensors, for one group of a log at a time and without torch,
which would take seconds to load before a page is written. A test holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from agentflow_verl.trajectories.run_folder import Entry


@dataclass(frozen=True)
class Estimator:
    """The options of ``FlowGRPO`` that an advantage depends on."""

    statistic: str = "trajectory"
    std: bool = True
    leave_one_out: bool = False
    min_group: int = 2
    eps: float = 1e-6

    @classmethod
    def of(cls, config: dict[str, Any]) -> Estimator | None:
        """That of a run's Hydra config; None where another estimator did the work."""
        if config.get("algorithm", {}).get("adv_estimator", "flow_grpo") != "flow_grpo":
            return None
        given = config.get("agentflow", {}).get("flow_grpo", {})
        return cls(
            **{field.name: given[field.name] for field in fields(cls) if field.name in given}
        )

    def advantages(self, rewards: Sequence[float], turns: Sequence[int]) -> list[float]:
        """A_i of a group's valid trajectories, which took ``turns`` rows each. All 0 where they are
        too few.
        """
        if len(rewards) < self.min_group:
            return [0.0] * len(rewards)
        share = turns if self.statistic == "turn" else [1] * len(rewards)
        count = sum(share)
        mean = sum(part * reward for part, reward in zip(share, rewards)) / count
        variance = sum(part * (reward - mean) ** 2 for part, reward in zip(share, rewards)) / (
            count - 1
        )
        scale = (count / (count - 1) if self.leave_one_out else 1.0) / (
            math.sqrt(variance) + self.eps if self.std else 1.0
        )
        return [(reward - mean) * scale for reward in rewards]


def advantages_of(members: Sequence[Entry], estimator: Estimator | None) -> list[float | None]:
    """A_i of each trajectory of one group. None where there is none: validation, a fault, another
    estimator.
    """
    valid = [
        entry
        for entry in members
        if entry.split == "train" and entry.outcome.valid and entry.reward is not None
    ]
    if estimator is None or not valid:
        return [None] * len(members)
    found = estimator.advantages(
        [entry.reward or 0.0 for entry in valid], [max(1, entry.rows) for entry in valid]
    )
    by_number = {entry.session: advantage for entry, advantage in zip(valid, found)}
    return [by_number.get(entry.session) for entry in members]
