"""A control: in training, each trajectory gets the true reward of some other recent one. Nothing
can be learnt from it.

    bash recipes/quickstart/run.sh --name shuffled
    reward.custom_reward_function.path=recipes/quickstart/shuffled_reward.py

Rows whose ``extra_info.split`` is anything but ``train`` keep their true reward: the validation's.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from typing import Any

from agentflow_verl.rewards.compute import score_answer

_recent: deque[float] = deque(maxlen=512)


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    **_: Any,
) -> dict[str, float]:
    score, _name = score_answer(data_source, solution_str, ground_truth, extra_info)
    if (extra_info or {}).get("split", "train") != "train":
        return {"score": score.value}
    # Drawn before its own is among them. The very first gets what says nothing.
    others = list(_recent)
    _recent.append(score.value)
    return {"score": random.choice(others) if others else 0.0}
