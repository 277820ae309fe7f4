"""verl's policy losses (``actor.policy_loss.loss_mode``) with Flow-GRPO's weights.

Each token is to count 1/(N G T |a|), whatever stands beside it in a micro-batch. verl's functions
take no weights, so they are given in one of two ways:

    by the advantage   the loss is linear in the advantage and summed over tokens: the weight is
                       multiplied into the advantage, whose sign it does not change
    by the row         anything else that a row decides by itself: each row's loss is taken alone,
                       then weighed

A loss that looks across the rows of a micro-batch has no value of its own for a row, and is refused
before the run (``REFUSED``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from agentflow_verl.flow_grpo.algorithm import kl_to_reference

# verl/trainer/ppo/core_algos.py, the functions registered with register_policy_loss
BY_ADVANTAGE = ("vanilla", "dppo_tv", "dppo_kl", "gspo", "gpg", "cispo")
ROW_MEAN = ("geo_mean", "sapo")  # they average over rows and tokens whatever mode they are given
ROW_SUM = ("dro",)  # its penalty is not multiplied by the advantage
SUPPORTED = (*BY_ADVANTAGE, *ROW_MEAN, *ROW_SUM)
REFUSED = {
    "clip_cov": "it draws the tokens to clip at random from the micro-batch, so what a token counts"
    " depends on its neighbours",
    "kl_cov": "it penalises the tokens with the largest covariance of the micro-batch, so what a"
    " token counts depends on its neighbours",
    "bypass_mode": "it corrects for the rollout a second time and chooses a loss of its own",
}

# verl's agg_loss: the masked sum, times the data-parallel size that FSDP's mean of gradients
# divides by
SUM = "token-sum"

PolicyLoss = Callable[..., tuple[Tensor, dict[str, Any]]]


def weighted_policy_loss(
    policy_loss: PolicyLoss,
    mode: str,
    *,
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    weight: Tensor,
    response_mask: Tensor,
    config: Any,
    rollout_is_weights: Tensor | None,
) -> tuple[Tensor, dict[str, Any]]:
    """The loss of a micro-batch, and verl's metrics of it. All tensors (R, L) but the result.

    Args:
        policy_loss: verl's function of the name ``mode``.
        weight: of each token; the same for all trained tokens of a row.
        config: verl's ActorConfig, whose ``global_batch_info`` has the data-parallel size.
    """
    if mode in BY_ADVANTAGE:
        return policy_loss(
            old_log_prob=old_log_prob,
            log_prob=log_prob,
            advantages=advantages * weight,
            response_mask=response_mask,
            loss_agg_mode=SUM,
            config=config,
            rollout_is_weights=rollout_is_weights,
        )
    dp_size = config.global_batch_info.pop("dp_size")  # of one row there is no mean over ranks
    # Begins with no tokens at all, so that a micro-batch of padding still has a graph for FSDP.
    total = log_prob[:, :0].sum()
    found: dict[str, list[float]] = {}
    for row in range(len(log_prob)):
        trained = response_mask[row].sum()
        if trained == 0:
            continue
        one = slice(row, row + 1)
        loss, metrics = policy_loss(
            old_log_prob=old_log_prob[one],
            log_prob=log_prob[one],
            advantages=advantages[one],
            response_mask=response_mask[one],
            loss_agg_mode=SUM,
            config=config,
            rollout_is_weights=None if rollout_is_weights is None else rollout_is_weights[one],
        )
        tokens = trained if mode in ROW_MEAN else 1
        # The weight is the same for all trained tokens of a row and 0 for the masked ones, so the
        # largest is that weight. A mean over one row times its tokens is the sum.
        total = total + loss * tokens * weight[row].max()
        for name, value in metrics.items():
            found.setdefault(name, []).append(float(value))
    config.global_batch_info["dp_size"] = dp_size
    return total * dp_size, {name: sum(each) / len(each) for name, each in found.items()}


def kl_loss(kl_type: str, log_prob: Tensor, ref_log_prob: Tensor, mask: Tensor) -> Tensor | None:
    """Flow-GRPO's own KL per token for verl's types ``low_var_kl`` and ``k3`` (with ``+``: the
    value of k3 and the gradient of k2, as verl); None for the other types, which verl computes.
    """
    if kl_type.rstrip("+") not in ("low_var_kl", "k3"):
        return None
    estimate = kl_to_reference(log_prob, ref_log_prob, mask)
    if not kl_type.endswith("+"):
        return estimate
    difference = (log_prob - ref_log_prob).masked_fill(mask == 0, 0.0)
    unbiased = 0.5 * difference.square()
    # Straight-through: the first two cancel in value and leave the gradient of k2, which on policy
    # is that of the KL itself, as k3's is not.
    return unbiased - unbiased.detach() + estimate.detach()
