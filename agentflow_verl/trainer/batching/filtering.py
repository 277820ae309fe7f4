"""DAPO's dynamic sampling (arXiv 2503.14476, section 3.2) over valid trajectories.

With ``algorithm.filter_groups.enable`` verl's replay buffer evicts groups whose rewards are all
equal and has new prompts sampled in their place. verl compares rows, so a trajectory that ended in
an infrastructure fault would count as a reward of 0: a group of equal rewards and one fault would
pass. Here faults are left out, and a group with fewer than two valid trajectories goes too.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import transfer_queue as tq

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trainer.rollout.row_record import is_valid, read_record

if TYPE_CHECKING:
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

REWARD = (
    "reward"  # verl's FILTER_GROUPS_REWARD_METRIC, which tests/trainer/test_upstream.py compares
)


def without_signal(buffer: ReplayBuffer, partition_id: str) -> tuple[set[str], Counter]:
    """Finished groups that cannot teach anything, and how many of them there are by value.

    Stands in for ``ReplayBuffer._dapo_filtered_keys`` (verl/trainer/ppo/v1/replay_buffer.py:261)
    and fills the same cache, since a finished group does not change. A group without two valid
    trajectories counts under value nan.
    """
    if partition_id == "val" or buffer.filter_groups_metric is None:
        return set(), Counter()
    known = buffer._dapo_classification_cache[partition_id]
    finished = buffer.finished_keys[partition_id]
    for uid in known.keys() - finished:
        del known[uid]
    values = _values(buffer, partition_id, finished - known.keys())
    for uid in finished - known.keys():
        valid = values[uid]
        known[uid] = math.nan if len(valid) < 2 else valid[0] if len(set(valid)) == 1 else None
    filtered = {uid: value for uid, value in known.items() if value is not None}
    return set(filtered), Counter(filtered.values())


def _values(
    buffer: ReplayBuffer, partition_id: str, uids: set[str]
) -> defaultdict[str, list[float]]:
    """The metric of each valid trajectory, by group. It stands on every row of a trajectory: its
    first is read.
    """
    values: defaultdict[str, list[float]] = defaultdict(list)
    keys = [
        key
        for key in buffer.partitions[partition_id]
        if key.split("_")[0] in uids and key.endswith("_0")
    ]
    if not keys:
        return values
    data = tq.kv_batch_get(
        keys=keys, partition_id=partition_id, select_fields=["rm_scores", "extra_fields"]
    )
    for key, score, extra in zip(keys, data["rm_scores"], data["extra_fields"]):
        extra = getattr(
            extra, "data", extra
        )  # as verl reads it: wrapped or not, by how it was stored
        if is_valid(read_record(extra)):
            values[key.split("_")[0]].append(_metric(buffer.filter_groups_metric, score, extra))
    return values


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
