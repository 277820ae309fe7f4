"""A control: in training, each trajectory gets the true reward of some other recent one. Nothing
can be learnt from it.

    bash recipes/quickstart/run.sh --name shuffled
    reward.custom_reward_function.path=recipes/quickstart/shuffled_reward.py

Held-out questions keep their true reward.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from agentflow_verl.rewards.compute import score_answer

_recent: deque[float] = deque(maxlen=512)


def compute_score(
    data_source: str, solution_str: str, ground_truth: Any, extra_info: dict[str, Any], **_: Any
) -> dict[str, float]:
    score, _name = score_answer(
        data_source, solution_str, ground_truth, {"scorer": extra_info["scorer"]}
    )
    if extra_info["split"] == "val":
        return {"score": score.value}
    _recent.append(score.value)
    return {"score": random.choice(_recent)}
