"""The trainer's side of shared prefixes: marks what engines compute, and counts what it saves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import transfer_queue as tq
from torch import Tensor
from transfer_queue import KVBatchMeta

from agentflow_verl.trainer.shared_prefix import support
from agentflow_verl.trainer.shared_prefix.engine import SHARED_PREFIX
from agentflow_verl.trainer.shared_prefix.tree import PrefixTree

if TYPE_CHECKING:
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer
else:  # verl's trainers import ours (plugin.py), which import this module: no circle
    PPOTrainer = object

PHASES = ("old_log_prob", "ref", "update_actor")
"""Those of verl's timers that compute rows."""


def read_rows(batch: KVBatchMeta) -> list[Tensor]:
    """Token ids of each row."""
    data = tq.kv_batch_get(
        keys=batch.keys, partition_id=batch.partition_id, select_fields=["input_ids"]
    )
    return list(data["input_ids"].unbind())


class SharedPrefixes(PPOTrainer):
    """A mixin over verl's PPOTrainer."""

    shares_prefixes = False
    _tokens = 0
    _distinct_tokens = 0

    def _setup(self) -> None:
        self.shares_prefixes = support.shares_prefixes(self.config)
        super()._setup()

    def mark(self, batch: KVBatchMeta) -> None:
        if self.shares_prefixes:
            batch.extra_info[SHARED_PREFIX] = self.config.agentflow.shared_prefix

    def count_tokens(self, rows: list[Tensor]) -> None:
        """Of a batch without its padding."""
        self._tokens += sum(map(len, rows))
        self._distinct_tokens += PrefixTree.of(rows).size

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        self.mark(batch)
        return super()._compute_old_log_prob(batch, metrics)

    def _compute_ref_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        self.mark(batch)
        return super()._compute_ref_log_prob(batch, metrics)

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        self.mark(batch)
        return super()._update_actor(batch, metrics)

    def _compute_metrics(
        self,
        batch: KVBatchMeta,
        metrics: dict[str, Any],
        timing_raw: dict[str, float],
        global_steps: int,
        epoch: int,
    ) -> None:
        """verl's, and what shared prefixes would save or did: whether they are on or not."""
        super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)
        if not self._distinct_tokens:
            return
        metrics["agentflow/distinct_tokens"] = self._distinct_tokens
        metrics["agentflow/tokens_per_distinct_token"] = self._tokens / self._distinct_tokens
        for phase in PHASES:
            if phase in timing_raw:
                per_token = 1e6 * timing_raw[phase] / self._distinct_tokens
                metrics[f"agentflow/us_per_distinct_token/{phase}"] = per_token
        # Not sooner: with several updates a step, verl's timers run over all of them.
        self._tokens = self._distinct_tokens = 0
