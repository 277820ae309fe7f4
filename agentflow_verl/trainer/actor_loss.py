"""The loss that verl's actor optimises: the paper's objective, token by token, with its weight.

verl aggregates a loss by rows or by tokens of a mini-batch, so what a token weighs depends on its
neighbours. Here the weight is a column of the batch (``LOSS_WEIGHT``, flow_grpo.weights) and the
aggregation is a plain sum, so value and gradient are the same however rows are split into
micro-batches and ranks.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import ray
import torch
from tensordict import TensorDict
from verl.experimental.separation.engine_workers import DetachActorWorker
from verl.single_controller.base.decorator import Dispatch, register
from verl.trainer.ppo.core_algos import agg_loss, get_policy_loss_fn, kl_penalty
from verl.utils.metric import AggregationType, Metric
from verl.workers.engine_workers import ActorRolloutRefWorker
from verl.workers.utils.losses import ppo_loss
from verl.workers.utils.padding import no_padding_2_padding

from agentflow_verl.trainer.actor_class import wrapped_class
from agentflow_verl.trainer.cpu import platform as cpu
from agentflow_verl.trainer.policy_losses import SUM, kl_loss, weighted_policy_loss
from agentflow_verl.trainer.shared_prefix import engine  # noqa: F401 - verl finds it by the device

LOSS_WEIGHT = "agentflow_loss_weight"


def flow_grpo_loss(
    config: Any, model_output: dict[str, Any], data: TensorDict, dp_group: Any = None
) -> tuple[torch.Tensor, dict[str, Any]]:
    """-J of flow_grpo/algorithm.py for a micro-batch: to be summed over micro-batches and averaged
    over ranks.

    Same signature and same metrics as verl's ``ppo_loss`` (verl/workers/utils/losses.py). The
    clipped ratio, with dual clip and rollout-correction weights, is verl's policy loss function.
    """
    log_prob = no_padding_2_padding(model_output["log_probs"], data)
    entropy = model_output.get("entropy")
    if entropy is not None:
        entropy = no_padding_2_padding(entropy, data)
    # verl leaves the sizes of the mini-batch here for agg_loss; the weights stand in their place.
    config.global_batch_info.clear()
    config.global_batch_info.update(dp_size=data["dp_size"])
    fields = ["response_mask", "old_log_probs", "advantages", LOSS_WEIGHT]
    fields += [name for name in ("rollout_is_weights", "ref_log_prob") if name in data]
    data = data.select(*fields).to_padded_tensor()
    mask, weight = data["response_mask"].to(bool), data[LOSS_WEIGHT].to(log_prob.dtype)

    mode = config.policy_loss.get("loss_mode", "vanilla")
    policy_loss, clip_metrics = weighted_policy_loss(
        get_policy_loss_fn(mode),
        mode,
        old_log_prob=data["old_log_probs"],
        log_prob=log_prob,
        advantages=data["advantages"].to(log_prob.dtype),
        weight=weight,
        response_mask=mask,
        config=config,
        rollout_is_weights=data.get("rollout_is_weights", None),
    )
    metrics = Metric.from_dict(clip_metrics, aggregation=AggregationType.MEAN)
    metrics["actor/pg_loss"] = Metric(value=policy_loss, aggregation=AggregationType.SUM)
    loss = policy_loss

    def weighted_sum(matrix: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = agg_loss(
            loss_mat=matrix * weight, loss_mask=mask, loss_agg_mode=SUM, **config.global_batch_info
        )
        return total

    if entropy is not None:
        entropy_mean = weighted_sum(entropy)
        loss = loss - config.entropy_coeff * entropy_mean
        metrics["actor/entropy_loss"] = Metric(value=entropy_mean, aggregation=AggregationType.SUM)
    if config.use_kl_loss:
        kl = weighted_sum(_kl(config.kl_loss_type, log_prob, data["ref_log_prob"], mask))
        loss = loss + config.kl_loss_coef * kl
        metrics["kl_loss"] = Metric(value=kl, aggregation=AggregationType.SUM)
        metrics["kl_coef"] = config.kl_loss_coef
    return loss, metrics


def _kl(
    kind: str, log_prob: torch.Tensor, ref_log_prob: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """KL per token: the paper's without verl's cap, any other kind as verl computes it."""
    ours = kl_loss(kind, log_prob, ref_log_prob, mask)
    if ours is not None:
        return ours
    # verl's annotation says torch.FloatTensor, the legacy type of tensors that it does not get.
    penalty: Any = kl_penalty
    verls: torch.Tensor = penalty(logprob=log_prob, ref_logprob=ref_log_prob, kl_penalty=kind)
    return verls


def choose_loss(
    config: Any, model_output: dict[str, Any], data: TensorDict, dp_group: Any = None
) -> tuple[torch.Tensor, dict[str, Any]]:
    """verl's own loss where the batch carries no weights (any estimator but flow_grpo)."""
    loss = flow_grpo_loss if LOSS_WEIGHT in data else ppo_loss
    return loss(config, model_output, data, dp_group)


if TYPE_CHECKING:
    MixedOver = ActorRolloutRefWorker
else:  # one mixin over two workers of verl, the second of which extends the first
    MixedOver = object


class _FlowLoss(MixedOver):
    """An actor worker with our loss; on the CPU platform also with workers that start gloo."""

    actor_worker_cls = cpu.training_worker()
    ref_worker_cls = cpu.training_worker()

    # verl adds the members of Dispatch at run time, so mypy knows none.
    @register(dispatch_mode=Dispatch.ONE_TO_ALL)  # type: ignore[attr-defined]
    def init_model(self) -> None:
        super().init_model()
        if self.actor is not None:
            self.actor.set_loss_fn(partial(choose_loss, config=self.loss_fn.keywords["config"]))


class FlowActorWorker(_FlowLoss, ActorRolloutRefWorker):
    """For the modes whose actor and rollout share their devices."""


class FlowDetachActorWorker(_FlowLoss, DetachActorWorker):
    """For ``separate_async``, which keeps older weights beside the newest."""


def with_flow_loss(worker: Any) -> Any:
    """Our worker in the place of verl's, by name: what verl hands over is already wrapped for Ray.

    Raises TypeError for a worker that is not known here, whose loss would silently be verl's.
    """
    ours = {"ActorRolloutRefWorker": FlowActorWorker, "DetachActorWorker": FlowDetachActorWorker}
    name = wrapped_class(worker).__name__
    if name not in ours:
        raise TypeError(
            f"verl's actor worker is {name}, which flow_grpo's loss was not made for"
            f" ({' or '.join(ours)})"
        )
    return ray.remote(ours[name])
