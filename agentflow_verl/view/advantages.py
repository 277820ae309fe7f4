"""The advantage that a logged trajectory was trained with.

What flow_grpo/algorithm.py does with tensors, for one group of a log at a time and without torch,
which would take seconds to load before a page is written. A test holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
    def from_config(cls, config: Mapping[str, Any]) -> Estimator | None:
        """That of a run's Hydra config; None where another estimator did the work, or where an
        option is of another type.
        """
        if _option(config, "algorithm", "adv_estimator") not in (None, "flow_grpo"):
            return None
        given = _option(config, "agentflow", "flow_grpo")
        options = {}
        for field in fields(cls):
            if isinstance(given, Mapping) and field.name in given:
                value, default = given[field.name], getattr(cls, field.name)
                if isinstance(default, float) and type(value) is int:
                    value = float(value)
                if type(value) is not type(default):
                    return None
                options[field.name] = value
        return cls(**options)

    def advantages(self, rewards: Sequence[float], turns: Sequence[int]) -> list[float]:
        """A_i of a group's valid trajectories, which took ``turns`` rows each. All 0 where they are
        too few.
        """
        if len(rewards) < max(2, self.min_group):
            return [0.0] * len(rewards)
        share = turns if self.statistic == "turn" else [1] * len(rewards)
        count = sum(share)
        mean = sum(part * reward for part, reward in zip(share, rewards)) / count
        squares = sum(part * (reward - mean) ** 2 for part, reward in zip(share, rewards))
        scale = count / (count - 1) if self.leave_one_out else 1.0
        if self.std:
            scale /= math.sqrt(squares / (count - 1)) + self.eps
        return [(reward - mean) * scale for reward in rewards]


def _option(config: Any, *keys: str) -> Any:
    for key in keys:
        config = config.get(key) if isinstance(config, Mapping) else None
    return config


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
