"""Flow-GRPO: group-normalised outcome rewards, broadcast to every turn (arXiv 2510.05592, equations
4 to 7).

    J = 1/N sum_g 1/G_g sum_i 1/T_i sum_t 1/|a_it| sum_j [ min(ρ A_i, clip(ρ, 1-ε, 1+ε) A_i) - β KL_itj ]
    A_i = (R_i - mean_k R_k) / (std_k R_k + eps)      over the G_g valid trajectories k of group g

A row is one planner turn. Shape suffixes: R rows, I trajectories, G groups, L response tokens. Ids
are integers in any order; rows of one trajectory need not be neighbours. A trajectory that is not
valid (an infrastructure fault, a padding row) is in no statistic and has weight 0; so has every row
of a group with fewer than ``min_group`` valid trajectories. Statistics are computed in float64
whatever comes in.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agentflow_verl.config.flow_grpo import FlowGRPO


def advantages(
    reward_R: Tensor,
    trajectory_R: Tensor,
    group_R: Tensor,
    valid_R: Tensor,
    options: FlowGRPO = FlowGRPO(),
) -> Tensor:
    """A_i of each row's trajectory, float64 (R,). 0 where the row is not valid or its group too
    small.

    Args:
        reward_R: the trajectory's outcome reward, the same on each of its rows.
        trajectory_R: trajectory id.
        group_R: group (prompt) id.
        valid_R: bool.
    """
    members = _Members(reward_R, trajectory_R, group_R, valid_R, options)
    centred_R = members.reward_R - members.mean_G[members.group_R]
    count_R = members.count_G[members.group_R]
    if options.leave_one_out:
        centred_R = centred_R * count_R / (count_R - 1).clamp(min=1)
    if options.std:
        centred_R = centred_R / (members.std_G[members.group_R] + options.eps)
    return centred_R * members.counts_R


def weights(
    reward_R: Tensor,
    trajectory_R: Tensor,
    group_R: Tensor,
    valid_R: Tensor,
    tokens_R: Tensor,
    step_R: Tensor | None = None,
    options: FlowGRPO = FlowGRPO(),
) -> Tensor:
    """The factor 1/(N G_g T_i |a_it|) of each token of a row, float64 (R,).

    The weights of one optimizer step, times their rows' tokens, sum to 1 less the shares of rows
    without tokens (to 0 when no group counts).

    Args:
        tokens_R: |a|, trained tokens of the row. A row with none has weight 0 but still counts in
            T_i. step_R: optimizer step the row's group belongs to; N is counted within it. None:
            one step.
    """
    members = _Members(reward_R, trajectory_R, group_R, valid_R, options)
    zero_G = torch.zeros_like(members.size_G)
    if options.trajectory_weight:
        share_R = 1 / (members.turns_R.clamp(min=1) * members.size_G[members.group_R].clamp(min=1))
    else:
        turns_G = zero_G.index_add(0, members.group_R, members.counts_R)
        share_R = 1 / turns_G[members.group_R].clamp(min=1)
    step_R = torch.zeros_like(members.group_R) if step_R is None else _index(step_R)[0]
    step_G = torch.zeros_like(members.size_G, dtype=torch.long).scatter(0, members.group_R, step_R)
    groups_S = zero_G.new_zeros(int(step_R.max()) + 1 if len(step_R) else 0).index_add(
        0, step_G, members.kept_G
    )
    per_group_R = share_R / groups_S[step_R].clamp(min=1)
    tokens_R = tokens_R.double()
    return torch.where(tokens_R > 0, members.counts_R * per_group_R / tokens_R.clamp(min=1), 0.0)


def objective(
    logprob_RL: Tensor,
    old_logprob_RL: Tensor,
    mask_RL: Tensor,
    advantage_R: Tensor,
    weight_R: Tensor,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    ref_logprob_RL: Tensor | None = None,
    beta: float = 0.0,
) -> Tensor:
    """J itself, to be maximised: a scalar with the dtype of ``logprob_RL``.

    The KL term is the k3 estimator of KL(π_θ || π_ref), r - 1 - log r with r = π_ref/π_θ (GRPO,
    arXiv 2402.03300).
    """
    masked_RL = (
        mask_RL == 0
    )  # what such a token holds must reach neither value nor gradient, however large its ratio
    ratio_RL = (logprob_RL - old_logprob_RL).masked_fill(masked_RL, 0.0).exp()
    advantage_R1 = advantage_R.to(logprob_RL.dtype).unsqueeze(-1)
    gain_RL = torch.minimum(
        ratio_RL * advantage_R1, ratio_RL.clamp(1 - clip_low, 1 + clip_high) * advantage_R1
    )
    if ref_logprob_RL is not None and beta:
        log_ratio_RL = (ref_logprob_RL - logprob_RL).masked_fill(masked_RL, 0.0)
        gain_RL = gain_RL - beta * (log_ratio_RL.exp() - 1 - log_ratio_RL)
    return (gain_RL * mask_RL * weight_R.to(logprob_RL.dtype).unsqueeze(-1)).sum()


class _Members:
    """Group statistics over valid members, by scatter: linear in rows, no loop over them."""

    def __init__(
        self,
        reward_R: Tensor,
        trajectory_R: Tensor,
        group_R: Tensor,
        valid_R: Tensor,
        options: FlowGRPO,
    ):
        self.reward_R = torch.where(
            valid_R.bool(), reward_R.double(), 0.0
        )  # a fault's reward may be anything, nan too
        self.group_R, groups = _index(group_R)
        trajectory_R, trajectories = _index(trajectory_R)
        valid_R = valid_R.bool().double()

        turns_I = self.reward_R.new_zeros(trajectories).index_add(0, trajectory_R, valid_R)
        self.turns_R = turns_I[trajectory_R]
        each_R = valid_R / self.turns_R.clamp(min=1)  # sums to 1 over a valid trajectory's rows
        zero_G = self.reward_R.new_zeros(groups)
        self.size_G = zero_G.index_add(0, self.group_R, each_R).round()

        member_R = each_R if options.statistic == "trajectory" else valid_R
        self.count_G = zero_G.index_add(0, self.group_R, member_R)
        safe_G = self.count_G.clamp(min=1)
        self.mean_G = zero_G.index_add(0, self.group_R, member_R * self.reward_R) / safe_G
        deviation_R = self.reward_R - self.mean_G[self.group_R]
        square_G = zero_G.index_add(0, self.group_R, member_R * deviation_R**2)
        self.std_G = (square_G / (self.count_G.round() - 1).clamp(min=1)).sqrt()

        kept_G = self.size_G >= options.min_group
        if not options.keep_zero_variance:
            low_G = torch.full_like(zero_G, torch.inf).scatter_reduce(
                0, self.group_R, _where(valid_R, self.reward_R, torch.inf), "amin"
            )
            high_G = torch.full_like(zero_G, -torch.inf).scatter_reduce(
                0, self.group_R, _where(valid_R, self.reward_R, -torch.inf), "amax"
            )
            kept_G = kept_G & (high_G > low_G)
        self.kept_G = kept_G.double()
        self.counts_R = valid_R * self.kept_G[self.group_R]


def _where(valid_R: Tensor, value_R: Tensor, other: float) -> Tensor:
    return torch.where(valid_R > 0, value_R, torch.full_like(value_R, other))


def _index(id_R: Tensor) -> tuple[Tensor, int]:
    """Ids as 0..n-1, and n."""
    unique, position_R = torch.unique(id_R, return_inverse=True)
    return position_R, len(unique)
