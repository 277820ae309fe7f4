"""A batch in which no token is trained: a step without an update, counted.

Where every trajectory ended before the policy wrote anything, or in an infrastructure fault, verl's
pipeline fails over the empty mask (utils/debug/metrics.py takes the maximum of nothing).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
import transfer_queue as tq
from tensordict import TensorDict
from transfer_queue import KVBatchMeta

from agentflow_verl.trainer.batching.dealing import BatchIndex
from agentflow_verl.trainer.metrics import batch_metrics
from agentflow_verl.trainer.progress import Progress
from agentflow_verl.trainer.resilience.fault_limit import stop_on_faults
from agentflow_verl.trainer.rollout.row_record import is_valid, read_records

if TYPE_CHECKING:
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer
else:  # verl's trainers import ours (plugin.py), which import this module: no circle
    PPOTrainer = object

logger = logging.getLogger(__name__)
SKIPPED = "agentflow/skipped_updates"


class NothingTrained(Exception):
    """Ends verl's ``_step_once`` after the batch was sampled. The trainer catches it there."""

    def __init__(self, batch: KVBatchMeta):
        super().__init__("no token of the batch is trained")
        self.batch = batch


def trained_tokens(batch: KVBatchMeta) -> int:
    """How many response tokens of the batch are not masked."""
    data = tq.kv_batch_get(
        keys=batch.keys, partition_id=batch.partition_id, select_fields=["response_mask"]
    )
    return sum(int(mask.sum()) for mask in data["response_mask"].unbind())


def write_zeros(batch: KVBatchMeta) -> None:
    """Write zeros to the columns that verl's metrics read, where nothing was computed."""
    data = tq.kv_batch_get(
        keys=batch.keys, partition_id=batch.partition_id, select_fields=["response_mask"]
    )
    zeros = torch.nested.as_nested_tensor(
        [torch.zeros_like(mask, dtype=torch.float32) for mask in data["response_mask"].unbind()],
        layout=torch.jagged,
    )
    columns = dict.fromkeys(("advantages", "returns", "token_level_rewards"), zeros)
    tq.kv_batch_put(
        keys=batch.keys,
        partition_id=batch.partition_id,
        fields=TensorDict(columns, batch_size=len(batch)),
    )


class UntrainedSteps(PPOTrainer):
    """A mixin over verl's PPOTrainer, whose ``_balance_batch`` raises NothingTrained."""

    progress: Progress

    def _step_once(
        self, metrics: dict[str, Any], timing_raw: dict[str, float], sample_batch_size: int
    ) -> KVBatchMeta:
        """verl's step, ended after sampling where nothing is trained."""
        try:
            return super()._step_once(metrics, timing_raw, sample_batch_size)
        except NothingTrained as empty:
            logger.warning("step %d has no update: %s", self.global_steps, empty)
            if self.trainer_mode == "separate_async" and self.local_trigger_step == 0:
                # Later batches of this weight version take their old log-probabilities from these
                # weights, which verl keeps where it computes them (trainer_separate_async.py:203).
                self.actor_rollout_wg.save_model_to_cpu(0)
            write_zeros(empty.batch)
            self._count_untrained(empty.batch, metrics)
            metrics |= {SKIPPED: 1, "agentflow/optimizer_steps": 0}
            return empty.batch

    def _count_untrained(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> None:
        """Log the outcomes of the trajectories. Raises InfraError for too many faults."""
        data = tq.kv_batch_get(
            keys=batch.keys,
            partition_id=batch.partition_id,
            select_fields=["rm_scores", "extra_fields"],
        )
        # A column of dicts comes back as one of several kinds of list, of dicts wrapped or not.
        records = read_records(getattr(item, "data", item) for item in list(data["extra_fields"]))
        stop_on_faults(records, self.config.agentflow.max_fault_rate)
        index = BatchIndex.of(batch.keys, batch.tags)
        valid_R = torch.tensor(list(map(is_valid, records)))
        score_R = torch.tensor([float(score.sum()) for score in data["rm_scores"].unbind()])
        nothing_R = torch.zeros(len(batch), dtype=torch.float64)
        metrics.update(batch_metrics(records, index, valid_R, score_R, nothing_R, nothing_R))

    def _compute_metrics(
        self,
        batch: KVBatchMeta,
        metrics: dict[str, Any],
        timing_raw: dict[str, float],
        global_steps: int,
        epoch: int,
    ) -> None:
        """verl's metrics, except in a step without a trained token, over which verl's statistics
        would fail.
        """
        if metrics.get(SKIPPED) and trained_tokens(batch) == 0:
            metrics |= {"training/global_step": global_steps, "training/epoch": epoch}
            for name, seconds in timing_raw.items():
                metrics[f"timing_s/{name}"] = seconds
            self.progress.show(global_steps, metrics)
        else:
            super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)
