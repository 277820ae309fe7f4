"""A reward of one's own: right answers by the rules, a little less for each turn after the first.

verl calls ``compute_score`` once a trajectory, in a worker process. ``extra_info`` holds the row's
own ``extra_info``, the ``question``, and the whole ``trajectory`` with its turns, calls and results
(agentflow_verl/trajectories/records.py). Every number of the result but ``score`` becomes a metric.
An exception is a fault: the trajectory leaves the loss, it is not scored 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentflow_verl.rewards.compute import compute_score as by_the_rules

PER_EXTRA_TURN = 0.1


def compute_score(
    data_source: str, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any], **_: Any
) -> dict[str, float]:
    given = {name: value for name, value in extra_info.items() if name != "trajectory"}
    right = by_the_rules(data_source, solution_str, ground_truth, given)["score"]
    turns = len(extra_info["trajectory"].turns)
    return {
        "score": right * max(0.0, 1.0 - PER_EXTRA_TURN * (turns - 1)),
        "right": right,
        "turns_taken": float(turns),
    }
