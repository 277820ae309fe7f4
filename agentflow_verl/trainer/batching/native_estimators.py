"""verl's own estimators, applied to the part of a batch that has no infrastructure faults.

verl scores a failed trajectory as 0, and includes it in its group's mean. Here the estimator sees
valid trajectories only; a group that has fewer than two left because of faults is left out
entirely, as in flow_grpo.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

import torch
import transfer_queue as tq
from tensordict import TensorDict
from torch import Tensor
from transfer_queue import KVBatchMeta

from agentflow_verl.trainer.batching.dealing import BatchIndex
from agentflow_verl.trainer.metrics import batch_metrics
from agentflow_verl.trainer.resilience.fault_limit import stop_on_faults
from agentflow_verl.trainer.rollout.row_record import RowRecord, is_valid, read_records

WRITTEN = ("advantages", "returns", "token_level_rewards", "rollout_is_weights")


def without_faults(
    estimate: Callable[[KVBatchMeta, dict[str, Any]], KVBatchMeta],
    batch: KVBatchMeta,
    metrics: dict[str, Any],
    fault_limit: float,
) -> KVBatchMeta:
    """Run ``estimate`` (verl's ``_compute_advantage``) on the rows that count; the others get zeros
    and an empty mask.
    """
    data = tq.kv_batch_get(
        keys=batch.keys,
        partition_id=batch.partition_id,
        select_fields=["response_mask", "rm_scores", "extra_fields"],
    )
    records = read_records(data.pop("extra_fields").tolist())
    index = BatchIndex.of(batch.keys, batch.tags)
    stop_on_faults(without_padding(records, index), fault_limit)
    valid_R = ~index.padding_R & torch.tensor(list(map(is_valid, records)))
    counted_rows = counting(index, valid_R)

    counted = batch
    if counted_rows.any():  # else no row is left to select: all of them get zeros below
        counted = batch.select_keys(list(compress(batch.keys, counted_rows.tolist())))
    done = estimate(counted, metrics)
    others = (~counted_rows).nonzero().flatten().tolist()
    if others:
        _write_zeros(batch, others, data["response_mask"], done.fields)

    written = tq.kv_batch_get(
        keys=batch.keys,
        partition_id=batch.partition_id,
        select_fields=["advantages", "response_mask"],
    )
    tokens_R = row_sums(written["response_mask"])
    # All tokens of a row have one advantage in most estimators; their mean stands for the others.
    advantage_R = row_sums(written["advantages"]) / tokens_R.clamp(min=1)
    score_R = row_sums(data["rm_scores"])
    loss_share_R = tokens_R / tokens_R.sum().clamp(min=1)
    metrics.update(batch_metrics(records, index, valid_R, score_R, advantage_R, loss_share_R))
    return KVBatchMeta(
        keys=batch.keys,
        tags=batch.tags,
        partition_id=batch.partition_id,
        fields=done.fields,
        extra_info=batch.extra_info,
    )


def _write_zeros(
    batch: KVBatchMeta, rows: list[int], response_mask: Tensor, fields: list[str]
) -> None:
    """Write zeros to the columns that the estimator has written, and an empty mask, so that these
    rows train nothing.
    """
    masks = response_mask.unbind()
    zeros = torch.nested.as_nested_tensor(
        [torch.zeros_like(masks[row], dtype=torch.float32) for row in rows], layout=torch.jagged
    )
    empty = zeros.to(response_mask.dtype)
    # verl's engine counts a mini-batch's tokens by loss_mask, its loss reads response_mask.
    columns = {"response_mask": empty, "loss_mask": empty}
    for name in WRITTEN:
        if name in fields:
            columns[name] = zeros
    tq.kv_batch_put(
        keys=[batch.keys[row] for row in rows],
        partition_id=batch.partition_id,
        fields=TensorDict(columns, batch_size=len(rows)),
    )


def row_sums(column: Tensor) -> Tensor:
    """The sum of each row of a nested column, whose rows have different lengths."""
    return torch.tensor([float(row.sum()) for row in column.unbind()])


def without_padding(
    records: Sequence[RowRecord | None], index: BatchIndex
) -> list[RowRecord | None]:
    """The records of the rows that are no copies added by verl's padding."""
    return list(compress(records, (~index.padding_R).tolist()))


def counting(index: BatchIndex, valid_R: Tensor) -> Tensor:
    """The rows of valid trajectories, except the only one left of a larger group: there is nothing
    to compare it with.
    """
    trajectories = set(
        zip(
            index.trajectory_R.tolist(),
            index.group_R.tolist(),
            valid_R.tolist(),
            index.padding_R.tolist(),
        )
    )
    sampled: Counter[int] = Counter()
    valid: Counter[int] = Counter()
    for _, group, is_valid_trajectory, is_padding in trajectories:
        sampled[group] += not is_padding
        valid[group] += is_valid_trajectory
    # A group sampled with one trajectory counts with one: that is how it was configured.
    enough = [valid[group] >= min(2, sampled[group]) for group in index.group_R.tolist()]
    return valid_R & torch.tensor(enough)
