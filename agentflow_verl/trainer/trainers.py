"""verl's V1 trainer modes with the paper's objective: ``agentflow_sync`` and its asynchronous
siblings.

One mixin over verl's three trainers. Beside what resilience/resumable_trainer.py and
shared_prefix/trainer.py do it changes six things, each a method of verl's PPOTrainer
(trainer/verl_api.py says why each):

    _setup                   with a LoRA adapter, rollout servers that can leave it off
    _build_replay_buffer     filters by valid trajectories, counts faults, keeps the data's order
    _init_resource_pool_mgr  the actor worker is ours (actor_loss.py), which holds the loss
    _balance_batch           rows are dealt to optimizer steps by group, not by row count
    _compute_advantage       over trajectories, with the loss weight of each row beside it
    _update_actor            as many mini-batches as the groups need

With any other ``algorithm.adv_estimator`` the last three are verl's own, over the trajectories that
did not end in a fault.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import transfer_queue as tq
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.protocol import DataProto
from verl.trainer.ppo.padding_utils import upsample_batch_to_divisible_size
from verl.trainer.ppo.ray_trainer import apply_kl_penalty
from verl.trainer.ppo.rollout_corr_helper import compute_rollout_correction_and_add_to_batch
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_colocate_async import PPOTrainerColocateAsync
from verl.trainer.ppo.v1.trainer_separate_async import PPOTrainerSeparateAsync
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.metric import reduce_metrics
from verl.utils.py_functional import rename_dict
from verl.utils.seqlen_balancing import log_seqlen_unbalance
from verl.workers.utils.padding import response_to_nested

from agentflow_verl.config.trained_modules import module_weights
from agentflow_verl.flow_grpo import FlowGRPO, advantages, per_token, trajectory_importance, weights
from agentflow_verl.trainer.actor_loss import LOSS_WEIGHT, with_flow_loss
from agentflow_verl.trainer.batching.dealing import BatchIndex, deal, deal_whole, plan_steps
from agentflow_verl.trainer.batching.native_estimators import without_faults
from agentflow_verl.trainer.batching.nothing_trained import (
    SKIPPED,
    NothingTrained,
    UntrainedSteps,
    trained_tokens,
)
from agentflow_verl.trainer.batching.replay_buffer import flow_replay_buffer
from agentflow_verl.trainer.cpu import platform as cpu
from agentflow_verl.trainer.metrics import batch_metrics, module_metrics, policy_rollout_kl
from agentflow_verl.trainer.preflight.verl_options import ESTIMATOR
from agentflow_verl.trainer.resilience.fault_limit import stop_on_faults
from agentflow_verl.trainer.resilience.resumable_trainer import ResumableTrainer
from agentflow_verl.trainer.resilience.weight_agreement import stop_on_other_weights
from agentflow_verl.trainer.rollout import sglang_server
from agentflow_verl.trainer.rollout.lora_sharing import can_share, share_rollout
from agentflow_verl.trainer.rollout.row_record import is_valid, module_ids, read_records
from agentflow_verl.trainer.rollout.worker_settings import resolve_node
from agentflow_verl.trainer.shared_prefix.trainer import SharedPrefixes, read_rows

ACTOR_ROLES = (Role.Actor, Role.ActorRollout, Role.ActorRolloutRef, Role.RefPolicy)


class FlowTrainer(UntrainedSteps, SharedPrefixes, ResumableTrainer):
    """The mixin. ``base_mode`` is what verl's own code must see as ``trainer_mode`` (it compares it
    with "sync").
    """

    base_mode: str

    @property
    def trainer_mode(self) -> str:
        return self.base_mode

    @trainer_mode.setter
    def trainer_mode(self, _: str) -> None:
        """verl assigns the registered name."""

    @property
    def flow_grpo(self) -> bool:
        return bool(self.config.algorithm.adv_estimator == ESTIMATOR)

    def _setup(self) -> None:
        if can_share(self.config.actor_rollout_ref):
            share_rollout(self.config)
        super()._setup()

    def _build_replay_buffer(self) -> Any:
        """verl's buffer with our sampling. Its warning that max_num_gen_batches is ignored would be
        wrong here (trainer_base.py:205): verl reads a 0.
        """
        filter_groups = self.config.algorithm.filter_groups
        limit = filter_groups.max_num_gen_batches
        filter_groups.max_num_gen_batches = 0
        try:
            buffer = super()._build_replay_buffer()
        finally:
            filter_groups.max_num_gen_batches = limit
        return flow_replay_buffer(
            buffer,
            rollout_n=self.config.actor_rollout_ref.rollout.n,
            max_fault_rate=self.config.agentflow.max_fault_rate,
            max_num_gen_batches=limit,
        )

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        for role, worker in self.role_worker_mapping.items():
            if role in ACTOR_ROLES:
                self.role_worker_mapping[role] = with_flow_loss(worker)

    # ---- a batch of rows, dealt to optimizer steps ----

    def _balance_batch(
        self,
        batch: KVBatchMeta,
        metrics: dict[str, Any],
        logging_prefix: str = "global_seqlen",
        keep_minibatch: bool = False,
    ) -> KVBatchMeta:
        """Order rows rank by rank, within a rank step by step, every step with the same number of
        rows on every rank.

        The groups of a step are whole, so a step's loss is the mean over its groups; padding rows
        fill the gaps.
        """
        if trained_tokens(batch) == 0:
            raise NothingTrained(batch)
        rows = read_rows(batch)
        self.count_tokens(rows)
        if not self.flow_grpo:
            return super()._balance_batch(batch, metrics, logging_prefix, keep_minibatch)
        ranks = self._ranks()
        per_step = self.config.actor_rollout_ref.actor.ppo_mini_batch_size
        index = BatchIndex.of(batch.keys, batch.tags)
        step_R = plan_steps(index.group_R.tolist(), per_step, self._shuffle_seed())
        if self.shares_prefixes:
            dealt = deal_whole(step_R, index, rows, ranks, self._row_multiple())
        else:
            dealt = deal(step_R, _lengths(batch), ranks, self._row_multiple())
        batch = upsample_batch_to_divisible_size(batch, dealt.size, self.tokenizer.eos_token_id)
        order = dealt.order()
        share = len(order) // ranks
        of_ranks = [order[rank * share : (rank + 1) * share] for rank in range(ranks)]
        # verl's own metric of balance, over what each rank really gets.
        metrics.update(log_seqlen_unbalance(_lengths(batch), of_ranks, prefix=logging_prefix))
        batch.reorder(order)
        self._steps = dealt.steps
        return batch

    def _shuffle_seed(self) -> str | None:
        """The seed for shuffling this batch's groups, None unless ``actor.shuffle`` is on; the same
        in a resumed run. One order holds for all ``ppo_epochs``, since a group's weights depend on
        its step.
        """
        actor = self.config.actor_rollout_ref.actor
        if not actor.shuffle:
            return None
        return f"{actor.data_loader_seed}/{self.global_steps}/{self.local_trigger_step}"

    def _ranks(self) -> int:
        """Data-parallel size of the actor."""
        group = self.actor_rollout_wg
        # verl fills this at the first call of a method that is dispatched; the batch is dealt
        # before one.
        if "actor" not in group._dispatch_info:
            group._dispatch_info["actor"] = group._query_dispatch_info("actor")
        return int(max(group._dispatch_info["actor"])) + 1

    def _row_multiple(self) -> int:
        """The number by which a rank's rows must be divisible: verl splits them into micro-batches
        of a fixed size, except where the size is dynamic.
        """
        config = self.config.actor_rollout_ref
        multiple = 1
        if not config.actor.use_dynamic_bsz:
            multiple = math.lcm(multiple, config.actor.ppo_micro_batch_size_per_gpu or 1)
        passes = [config.rollout]
        if self.use_reference_policy:
            passes.append(config.ref)
        for log_prob in passes:
            if not log_prob.log_prob_use_dynamic_bsz:
                size = log_prob.log_prob_micro_batch_size_per_gpu or 1
                multiple = math.lcm(multiple, size)
        return multiple

    # ---- advantages and weights ----

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        """verl's method (trainer_base.py:1743) with flow_grpo/ in place of its estimator, and a
        loss weight per row.
        """
        stop_on_other_weights(metrics, self.config.agentflow.max_rollout_probs_diff)
        if not self.flow_grpo:
            return without_faults(
                super()._compute_advantage, batch, metrics, self.config.agentflow.max_fault_rate
            )
        fields = [
            "uid",
            "response_mask",
            "rm_scores",
            "rollout_log_probs",
            "old_log_probs",
            "ref_log_prob",
            "values",
        ]
        data = tq.kv_batch_get(
            keys=batch.keys,
            partition_id=batch.partition_id,
            select_fields=[*fields, "extra_fields"],
        )
        records = read_records(data.pop("extra_fields").tolist())
        stop_on_faults(
            [row for row, tag in zip(records, batch.tags) if not tag.get("is_padding")],
            self.config.agentflow.max_fault_rate,
        )
        response_mask = data["response_mask"]
        data = DataProto(batch=data.to_padded_tensor())
        data.non_tensor_batch["uid"] = np.array(data.batch.pop("uid").tolist(), dtype=object)
        data.batch["token_level_scores"] = data.batch["rm_scores"]
        tokens_R = data.batch["response_mask"].sum(-1)

        if self.config.algorithm.use_kl_in_reward:
            kl = self.config.algorithm.kl_penalty
            data, kl_metrics = apply_kl_penalty(data, kl_ctrl=self.kl_ctrl_in_reward, kl_penalty=kl)
            metrics.update(kl_metrics)
        else:
            data.batch["token_level_rewards"] = data.batch["token_level_scores"]
        correction = self._corrects_rollout(data)
        if correction:
            data, correction_metrics = compute_rollout_correction_and_add_to_batch(
                data, self.config.algorithm.rollout_correction
            )
            metrics.update(correction_metrics)

        index = BatchIndex.of(batch.keys, batch.tags)
        valid_R = ~index.padding_R & torch.tensor(list(map(is_valid, records)))
        options = FlowGRPO(**resolve_node(self.config.agentflow.flow_grpo))
        if correction and options.sequence == "trajectory":
            self._correct_by_trajectory(data, index)
        reward_R = self._trajectory_rewards(data, index)
        advantage_R = advantages(reward_R, index.trajectory_R, index.group_R, valid_R, options)
        step_R = self._step_of_rows(index)
        who = reward_R, index.trajectory_R, index.group_R, valid_R
        weight_of = module_weights(self.config.agentflow.train, self.config.agentflow.train_weights)
        module_R = module_ids(records, list(weight_of))
        weight_M = torch.tensor(list(weight_of.values()), dtype=torch.float64)
        weight_R = weights(*who, tokens_R, step_R, options, module_R, weight_M)
        self._trained_steps = sorted(set(step_R[weight_R > 0].tolist()))
        score_R, loss_share_R = data.batch["rm_scores"].sum(-1), weight_R * tokens_R
        metrics.update(batch_metrics(records, index, valid_R, score_R, advantage_R, loss_share_R))
        metrics.update(module_metrics(list(weight_of), module_R, advantage_R, weight_R, data.batch))
        if "rollout_log_probs" in data.batch:
            metrics.update(
                policy_rollout_kl(
                    data.batch["old_log_probs"],
                    data.batch["rollout_log_probs"],
                    data.batch["response_mask"],
                )
            )

        written = ["token_level_rewards"] if self.config.algorithm.use_kl_in_reward else []
        if correction:
            # Rejection sampling masks tokens, importance sampling weights them.
            for name in ("response_mask", "rollout_is_weights"):
                if name in data.batch:
                    written.append(name)
        output = {name: response_to_nested(data.batch[name], response_mask) for name in written}
        mask = output.get("response_mask", response_mask)
        # Without a critic the returns are the advantages, as in verl's own estimators.
        output["advantages"] = output["returns"] = _on_tokens(advantage_R, mask)
        output[LOSS_WEIGHT] = _on_tokens(weight_R, mask)
        return tq.kv_batch_put(
            keys=batch.keys,
            partition_id=batch.partition_id,
            fields=TensorDict(output, batch_size=len(batch)),
        )

    def _correct_by_trajectory(self, data: DataProto, index: BatchIndex) -> None:
        """In the place of verl's weights, which multiply over the tokens of one row."""
        mask_RL = data.batch["response_mask"]
        threshold = self.config.algorithm.rollout_correction.rollout_is_threshold
        old, rollout = data.batch["old_log_probs"], data.batch["rollout_log_probs"]
        ratio_R = trajectory_importance(old, rollout, mask_RL, index.trajectory_R, threshold)
        data.batch["rollout_is_weights"] = ratio_R.float().unsqueeze(-1) * mask_RL

    def _corrects_rollout(self, data: DataProto) -> bool:
        correction = self.config.algorithm.get("rollout_correction", None)
        if not correction or correction.get("bypass_mode", False):
            return False
        return "rollout_log_probs" in data.batch

    @staticmethod
    def _trajectory_rewards(data: DataProto, index: BatchIndex) -> torch.Tensor:
        """The outcome reward on each row, less the KL penalty of all its turns where it has one."""
        score_R = data.batch["rm_scores"].sum(-1, dtype=torch.float64)
        penalty_R = data.batch["token_level_rewards"].sum(-1, dtype=torch.float64) - score_R
        penalty_I = torch.zeros(int(index.trajectory_R.max()) + 1, dtype=torch.float64).index_add(
            0, index.trajectory_R, penalty_R
        )
        reward_R: torch.Tensor = score_R + penalty_I[index.trajectory_R]
        return reward_R

    def _step_of_rows(self, index: BatchIndex) -> torch.Tensor:
        """The optimizer step of each row, from the order that ``_balance_batch`` made."""
        per_rank = len(index.group_R) // self._ranks()
        position_R = torch.arange(len(index.group_R)) % per_rank
        return position_R // (per_rank // self._steps)

    # ---- the update ----

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        """verl's method (trainer_base.py:1827), by number of mini-batches instead of rows, never
        shuffled by rows: a group that is torn apart would be weighed wrongly.

        An optimizer step in which no token has weight is left out: with a gradient of 0 Adam would
        still move the weights by its momentum and the weight decay.
        """
        if not self.flow_grpo:
            return super()._update_actor(batch, metrics)
        self.mark(batch)
        steps = len(self._trained_steps)
        metrics[SKIPPED] = self._steps - steps
        if steps == 0:
            metrics["agentflow/optimizer_steps"] = 0
            return batch
        whole, batch = batch, self._rows_of_trained_steps(batch)
        actor = self.config.actor_rollout_ref.actor
        batch.extra_info.update(
            {
                "calculate_entropy": actor.calculate_entropy or actor.entropy_coeff != 0.0,
                "global_batch_size": len(batch) // steps,
                "num_mini_batch": steps,
                "epochs": actor.ppo_epochs,
                "seed": actor.data_loader_seed,
                # Groups were shuffled as wholes in _balance_batch, if at all.
                "dataloader_kwargs": {"shuffle": False},
                "temperature": self.config.actor_rollout_ref.rollout.temperature,
                "distillation_use_topk": False,
                "distillation_only": False,
            }
        )
        output = rename_dict(self.actor_rollout_wg.update_actor(batch)["metrics"], "actor/")
        output["perf/mfu/actor"] = output.pop("actor/mfu")
        metrics.update(reduce_metrics(output))
        metrics["agentflow/optimizer_steps"] = steps * actor.ppo_epochs
        return whole

    def _rows_of_trained_steps(self, batch: KVBatchMeta) -> KVBatchMeta:
        """The batch without the rows of other steps; still rank by rank, within a rank by step."""
        if len(self._trained_steps) == self._steps:
            return batch
        step_R = self._step_of_rows(BatchIndex.of(batch.keys, batch.tags)).tolist()
        trained = set(self._trained_steps)
        keys = [key for key, step in zip(batch.keys, step_R) if step in trained]
        kept = batch.select_keys(keys)
        # select_keys shares the dictionary, which the update then writes to.
        kept.extra_info = dict(batch.extra_info)
        return kept


def _on_tokens(value_R: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Nested as the mask is."""
    offsets = mask.offsets()  # type: ignore[attr-defined]  # torch types no nested tensor
    value_T = per_token(value_R, offsets.diff(), mask.values())
    return torch.nested.nested_tensor_from_jagged(value_T, offsets)


def _lengths(batch: KVBatchMeta) -> list[int]:
    return [int(tag["seq_len"]) for tag in batch.tags]


class FlowTrainerSync(FlowTrainer, PPOTrainerSync):
    base_mode = "sync"


class FlowTrainerColocateAsync(FlowTrainer, PPOTrainerColocateAsync):
    base_mode = "colocate_async"


class FlowTrainerSeparateAsync(FlowTrainer, PPOTrainerSeparateAsync):
    base_mode = "separate_async"


def _register() -> None:
    for trainer in (FlowTrainerSync, FlowTrainerColocateAsync, FlowTrainerSeparateAsync):
        register_trainer(f"agentflow_{trainer.base_mode}")(trainer)
    cpu.register_rollout()
    sglang_server.register()


_register()
