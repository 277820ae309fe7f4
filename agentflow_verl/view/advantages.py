"""The advantage that a logged trajectory was trained with.

The same estimator as flow_grpo/algorithm.py, for one group of a log at a time and without torch,
which would take seconds to import before a page is written. A test compares the two.
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
    trained: tuple[str, ...] = ("planner",)
    """``agentflow.train``: whose calls are rows."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Estimator | None:
        """Read the options from a run's Hydra config. None where the run used another estimator or
        rewards that the log has not (less the KL), or where an option has another type.
        """
        if _option(config, "algorithm", "adv_estimator") not in (None, "flow_grpo"):
            return None
        if _option(config, "algorithm", "use_kl_in_reward") not in (None, False):
            return None
        options: dict[str, Any] = {}
        trained = _option(config, "agentflow", "train")
        if isinstance(trained, list):
            options["trained"] = tuple(map(str, trained))
        given = _option(config, "agentflow", "flow_grpo")
        if not isinstance(given, Mapping):
            return cls(**options)
        for field in fields(cls):
            if field.name not in given:
                continue
            value, default = given[field.name], getattr(cls, field.name)
            # type() and not isinstance(): a bool is an int, but eps: true is a mistake.
            if isinstance(default, float) and type(value) is int:
                value = float(value)
            if type(value) is not type(default):
                return None
            options[field.name] = value
        return cls(**options)

    def advantages(self, rewards: Sequence[float], rows: Sequence[int]) -> list[float]:
        """A_i of a group's valid trajectories, of so many rows each; all 0 where there are too
        few trajectories.
        """
        if len(rewards) < max(2, self.min_group):
            return [0.0] * len(rewards)
        weights: Sequence[int] = [1] * len(rewards)
        if self.statistic == "turn":
            weights = rows
        count = sum(weights)
        total = 0.0
        for weight, reward in zip(weights, rewards):
            total += weight * reward
        mean = total / count
        deviations = [reward - mean for reward in rewards]
        scale = 1.0
        if self.leave_one_out:
            # A_i minus the mean of the others is n / (n - 1) times A_i minus the mean of all.
            scale = count / (count - 1)
        if self.std:
            squares = 0.0
            for weight, deviation in zip(weights, deviations):
                squares += weight * deviation**2
            scale /= math.sqrt(squares / (count - 1)) + self.eps
        return [deviation * scale for deviation in deviations]


def _option(config: Any, *keys: str) -> Any:
    """The option at a path of keys; None where there is no such option."""
    for key in keys:
        if not isinstance(config, Mapping):
            return None
        config = config.get(key)
    return config


def advantages_of(members: Sequence[Entry], estimator: Estimator | None) -> list[float | None]:
    """A_i of each trajectory of one group. None where it has none: in validation, after a fault, or
    with another estimator.
    """
    valid = []
    for entry in members:
        if entry.split == "train" and entry.outcome.valid and entry.reward is not None:
            valid.append(entry)
    if estimator is None or not valid:
        return [None] * len(members)
    rows = []
    for entry in valid:
        # A trajectory without a row of its own has a placeholder.
        rows.append(max(1, sum(entry.calls.get(module, 0) for module in estimator.trained)))
    rewards = [float(entry.reward or 0.0) for entry in valid]
    sessions = [entry.session for entry in valid]
    by_session = dict(zip(sessions, estimator.advantages(rewards, rows)))
    return [by_session.get(entry.session) for entry in members]
