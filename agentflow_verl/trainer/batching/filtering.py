"""DAPO's dynamic sampling (arXiv 2503.14476, section 3.2) over valid trajectories.

With ``algorithm.filter_groups.enable`` verl's replay buffer evicts groups whose rewards are all
equal and has new prompts sampled in their place. verl compares rows, so a trajectory that ended in
an infrastructure fault would count as a reward of 0: a group of equal rewards and one fault would
pass. Here faults are left out, and a group with fewer than two valid trajectories goes too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import transfer_queue as tq

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trainer.resilience.fault_limit import fault_of
from agentflow_verl.trainer.rollout.row_record import read_record

if TYPE_CHECKING:
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

REWARD = "reward"  # FILTER_GROUPS_REWARD_METRIC, verl/trainer/ppo/v1/replay_buffer.py:31
NO_COMPARISON = math.nan  # what a group without two valid trajectories is counted under


@dataclass
class FinishedGroup:
    """The trajectories of one prompt, as far as filtering must know them."""

    trajectories: int = 0
    values: list[float] = field(default_factory=list)
    """The configured metric of each valid trajectory."""
    faults: list[str] = field(default_factory=list)
    """The error of each trajectory that ended in an infrastructure fault."""


def shared_value(values: Sequence[float]) -> float | None:
    """The value that makes a group uninformative; None for a group that is kept."""
    if len(values) < 2:
        return NO_COMPARISON
    if len(set(values)) > 1:
        return None
    return values[0]


def read_groups(
    buffer: ReplayBuffer, partition_id: str, uids: set[str]
) -> dict[str, FinishedGroup]:
    """Each of ``uids`` with its trajectories."""
    groups = {uid: FinishedGroup() for uid in uids}
    keys = []
    for key in buffer.partitions[partition_id]:
        # UID_SESSION_TURN: every row of a trajectory has what is read here, so read its first.
        if key.split("_")[0] in uids and key.endswith("_0"):
            keys.append(key)
    if not keys:
        return groups
    metric = buffer.filter_groups_metric or REWARD
    data = tq.kv_batch_get(
        keys=keys, partition_id=partition_id, select_fields=["rm_scores", "extra_fields"]
    )
    for key, score, stored in zip(keys, data["rm_scores"], data["extra_fields"]):
        # As in verl (replay_buffer.py:293): wrapped or not, depending on how it was stored.
        extra = getattr(stored, "data", stored)
        group = groups[key.split("_")[0]]
        group.trajectories += 1
        record = read_record(extra)
        if record is not None and record.valid:
            group.values.append(_metric(metric, score, extra))
        else:
            group.faults.append(fault_of(record))
    return groups


def _metric(name: str, score: Any, extra: dict[str, Any]) -> float:
    if name == REWARD:
        return float(score.sum())
    scores = extra.get("reward_extra_info", {})
    if name not in scores:
        raise ConfigError(
            f"algorithm.filter_groups.metric={name}: the reward gives"
            f" {', '.join(['reward', *scores])}"
        )
    return float(scores[name])
