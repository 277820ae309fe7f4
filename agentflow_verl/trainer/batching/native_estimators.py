"""verl's own estimators over what infrastructure faults have left of a batch.

verl scores a trajectory that failed as 0 and lets it into its group's mean. Here the estimator sees
the valid trajectories only, and a group that faults have thinned below two is left out whole, as
flow_grpo leaves it out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
import transfer_queue as tq
from tensordict import TensorDict
from torch import Tensor
from transfer_queue import KVBatchMeta

from agentflow_verl.trainer.batching.dealing import BatchIndex
from agentflow_verl.trainer.metrics import batch_metrics
from agentflow_verl.trainer.resilience.fault_limit import stop_on_faults
from agentflow_verl.trainer.rollout.row_record import is_valid, read_records

WRITTEN = ("advantages", "returns", "token_level_rewards", "rollout_is_weights")


def without_faults(
    estimate: Callable[[KVBatchMeta, dict], KVBatchMeta],
    batch: KVBatchMeta,
    metrics: dict,
    fault_limit: float,
) -> KVBatchMeta:
    """``estimate`` (verl's ``_compute_advantage``) on the rows that count; the others get zeros and
    an empty mask.
    """
    data = tq.kv_batch_get(
        keys=batch.keys,
        partition_id=batch.partition_id,
        select_fields=["response_mask", "rm_scores", "extra_fields"],
    )
    records = read_records(data.pop("extra_fields").tolist())
    index = BatchIndex.of(batch.keys, batch.tags)
    stop_on_faults(
        [row for row, padding in zip(records, index.padding_R.tolist()) if not padding], fault_limit
    )
    valid_R = ~index.padding_R & torch.tensor([is_valid(record) for record in records])
    counts = counting(index, valid_R).tolist()

    done = estimate(
        (
            batch.select_keys([key for key, counted in zip(batch.keys, counts) if counted])
            if any(counts)
            else batch
        ),
        metrics,
    )
    masks = [mask.float() for mask in data["response_mask"].unbind()]
    others = [row for row, counted in enumerate(counts) if not counted]
    if others:
        zeros = torch.nested.as_nested_tensor(
            [torch.zeros_like(masks[row]) for row in others], layout=torch.jagged
        )
        empty = zeros.to(data["response_mask"].dtype)
        # verl's engine counts a mini-batch's tokens by loss_mask, its loss reads response_mask.
        fields = {"response_mask": empty, "loss_mask": empty}
        for name in WRITTEN:
            if name in done.fields:
                fields[name] = zeros
        keys = [batch.keys[row] for row in others]
        tq.kv_batch_put(
            keys=keys,
            partition_id=batch.partition_id,
            fields=TensorDict(fields, batch_size=len(others)),
        )

    written = tq.kv_batch_get(
        keys=batch.keys,
        partition_id=batch.partition_id,
        select_fields=["advantages", "response_mask"],
    )
    tokens_R = torch.tensor([float(mask.sum()) for mask in written["response_mask"].unbind()])
    advantage_R = torch.tensor(
        [float(row.sum()) for row in written["advantages"].unbind()]
    ) / tokens_R.clamp(min=1)
    score_R = torch.tensor([float(row.sum()) for row in data["rm_scores"].unbind()])
    metrics.update(
        batch_metrics(
            records, index, valid_R, score_R, advantage_R, tokens_R / tokens_R.sum().clamp(min=1)
        )
    )
    return KVBatchMeta(
        keys=batch.keys,
        tags=batch.tags,
        partition_id=batch.partition_id,
        fields=done.fields,
        extra_info=batch.extra_info,
    )


def counting(index: BatchIndex, valid_R: Tensor) -> Tensor:
    """Rows of valid trajectories, but for the survivor of a group that had others: it has nothing
    to be compared with.
    """
    trajectories = set(
        zip(
            index.trajectory_R.tolist(),
            index.group_R.tolist(),
            valid_R.tolist(),
            index.padding_R.tolist(),
        )
    )
    sampled = Counter(group for _, group, _, padding in trajectories if not padding)
    valid = Counter(group for _, group, is_valid, _ in trajectories if is_valid)
    enough = torch.tensor(
        [valid[group] >= min(2, sampled[group]) for group in index.group_R.tolist()]
    )
    return valid_R & enough
