"""Flow-GRPO: group-normalised outcome rewards, broadcast to every turn (arXiv 2510.05592, equations
4 to 7).

    J = 1/N sum_g 1/G_g sum_i 1/T_i sum_t 1/|a_it| sum_j [ min(ρ A_i, clip(ρ, 1-ε, 1+ε) A_i) - β KL_itj ]
    A_i = (R_i - mean_k R_k) / (std_k R_k + eps)      over the G_g valid trajectories k of group g

A row is one planner turn. Shape suffixes: R rows, I trajectories, G groups, S optimizer steps, L
response tokens. Ids are integers in any order; rows of one trajectory need not be neighbours. A
trajectory that is not valid (an infrastructure fault, a padding row) is in no statistic and has
weight 0; so has every row of a group with fewer than ``min_group`` valid trajectories. Statistics
are computed in float64 whatever comes in.

Top to bottom: who is in which group (``GroupStatistics``), the advantage A_i, the weight
1/(N G_g T_i |a_it|), and J itself. The trainer computes the first three once per batch and J per
micro-batch, where the weights make the sum independent of how rows are split.
"""  # noqa: E501 - the equation is one line

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from agentflow_verl.config.flow_grpo import FlowGRPO


class GroupStatistics:
    """Mean, deviation and size of each group over its valid trajectories.

    By scatter operations: linear in rows, and no loop over groups.

    Args:
        reward_R: the trajectory's outcome reward, the same on each of its rows.
        trajectory_R: trajectory id.
        group_R: group (prompt) id.
        valid_R: bool.
    """

    def __init__(
        self,
        reward_R: Tensor,
        trajectory_R: Tensor,
        group_R: Tensor,
        valid_R: Tensor,
        options: FlowGRPO,
    ):
        valid_R = valid_R.bool()
        # The reward of a fault may be anything, nan too, and nan times 0 is nan.
        self.reward_R = torch.where(valid_R, reward_R.double(), 0.0)
        self.group_R, groups = _as_positions(group_R)
        trajectory_R, trajectories = _as_positions(trajectory_R)
        is_valid_R = valid_R.double()

        zero_I = self.reward_R.new_zeros(trajectories)
        zero_G = self.reward_R.new_zeros(groups)
        self.turns_R = zero_I.index_add(0, trajectory_R, is_valid_R)[trajectory_R]
        # Sums to 1 over the rows of a valid trajectory, so sums over rows count trajectories.
        trajectory_share_R = is_valid_R / self.turns_R.clamp(min=1)
        self.size_G = zero_G.index_add(0, self.group_R, trajectory_share_R).round()

        member_R = trajectory_share_R if options.statistic == "trajectory" else is_valid_R
        # Each of a trajectory's T rows adds 1/T, so it counts once whatever its length. Thirds do
        # not add up to exactly 1, so the count is rounded where it decides.
        self.count_G = zero_G.index_add(0, self.group_R, member_R)
        total_G = zero_G.index_add(0, self.group_R, member_R * self.reward_R)
        self.mean_G = total_G / self.count_G.clamp(min=1)
        deviation_R = self.reward_R - self.mean_G[self.group_R]
        square_G = zero_G.index_add(0, self.group_R, member_R * deviation_R**2)
        # Unbiased, as verl's GRPO (torch.std): the divisor is one less than the members.
        self.std_G = (square_G / (self.count_G.round() - 1).clamp(min=1)).sqrt()

        kept_G = self.size_G >= options.min_group
        if not options.keep_zero_variance:
            kept_G = kept_G & self._has_signal(valid_R, zero_G)
        self.kept_G = kept_G.double()
        self.counted_R = is_valid_R * self.kept_G[self.group_R]

    def _has_signal(self, valid_R: Tensor, zero_G: Tensor) -> Tensor:
        """Whether two rewards of a group differ. By extremes: a deviation of equal rewards may be
        1e-17 and not 0.
        """
        lowest_R = torch.where(valid_R, self.reward_R, torch.inf)
        highest_R = torch.where(valid_R, self.reward_R, -torch.inf)
        low_G = torch.full_like(zero_G, torch.inf)
        high_G = torch.full_like(zero_G, -torch.inf)
        low_G = low_G.scatter_reduce(0, self.group_R, lowest_R, "amin")
        high_G = high_G.scatter_reduce(0, self.group_R, highest_R, "amax")
        return high_G > low_G


def advantages(
    reward_R: Tensor,
    trajectory_R: Tensor,
    group_R: Tensor,
    valid_R: Tensor,
    options: FlowGRPO = FlowGRPO(),
) -> Tensor:
    """A_i of each row's trajectory, float64 (R,). 0 where the row is not valid or its group too
    small. Arguments as for ``GroupStatistics``.
    """
    group = GroupStatistics(reward_R, trajectory_R, group_R, valid_R, options)
    centred_R = group.reward_R - group.mean_G[group.group_R]
    if options.leave_one_out:
        # R_i less the mean of the others is n / (n - 1) times R_i less the mean of all.
        count_R = group.count_G[group.group_R]
        centred_R = centred_R * count_R / (count_R - 1).clamp(min=1)
    if options.std:
        centred_R = centred_R / (group.std_G[group.group_R] + options.eps)
    return centred_R * group.counted_R


def weights(
    reward_R: Tensor,
    trajectory_R: Tensor,
    group_R: Tensor,
    valid_R: Tensor,
    tokens_R: Tensor,
    step_R: Tensor | None = None,
    options: FlowGRPO = FlowGRPO(),
    module_R: Tensor | None = None,
    module_weight_M: Tensor | None = None,
) -> Tensor:
    """The factor 1/(N G_g T_i |a_it|) of each token of a row, float64 (R,).

    Where several modules are trained, T_i is the number of calls of the row's module in its
    trajectory, and the factor is multiplied by the module's weight: a module weighs the same
    however often it was called.

    The weights of one optimizer step, times their rows' tokens, sum to 1 less the shares of rows
    without tokens (to 0 when no group counts).

    Args:
        tokens_R: |a|, trained tokens of the row. A row with none has weight 0 but still counts in
            T_i.
        step_R: optimizer step that the row's group belongs to; N is counted within it. None: one
            step.
        module_R: which module a row is a call of; M where it is a call of none. None: all of one.
        module_weight_M: of each module, summing to 1. One that a trajectory never called keeps its
            share, which nobody gets.
    """
    group = GroupStatistics(reward_R, trajectory_R, group_R, valid_R, options)
    zero_G = torch.zeros_like(group.size_G)
    if module_R is None or module_weight_M is None:
        module_R, module_weight_M = torch.zeros_like(group.group_R), torch.ones(1)
    module_weight_M = torch.cat([module_weight_M.double(), torch.zeros(1).double()])
    modules = len(module_weight_M)
    if options.trajectory_weight:
        size_R = group.size_G[group.group_R]
        calls_R = _rows_alike(trajectory_R, module_R, modules, valid_R.double())
        share_R = 1 / (calls_R.clamp(min=1) * size_R.clamp(min=1))
    else:
        calls_R = _rows_alike(group.group_R, module_R, modules, group.counted_R)
        share_R = 1 / calls_R.clamp(min=1)
    share_R = share_R * module_weight_M[module_R]

    if step_R is None:
        step_R = torch.zeros_like(group.group_R)
    step_R, steps = _as_positions(step_R)
    step_G = torch.zeros_like(group.size_G, dtype=torch.long)
    step_G = step_G.scatter(0, group.group_R, step_R)
    # N is counted within an optimizer step: verl averages nothing afterwards, so each step's
    # weights must sum to 1 by themselves.
    groups_S = zero_G.new_zeros(steps).index_add(0, step_G, group.kept_G)
    share_R = share_R / groups_S[step_R].clamp(min=1)

    tokens_R = tokens_R.double()
    # A row without trained tokens keeps its share, which nobody gets: to give it to the other turns
    # would make a turn's weight depend on how another ended.
    per_token_R = group.counted_R * share_R / tokens_R.clamp(min=1)
    return torch.where(tokens_R > 0, per_token_R, 0.0)


def per_token(value_R: Tensor, length_R: Tensor, mask_T: Tensor) -> Tensor:
    """Each row's value on its trained tokens, float32 (T,), 0 on the others.

    Args:
        length_R: tokens of each row, trained or not. As all here, on the CPU.
        mask_T: 1 where a token is trained; the tokens of all rows, one row after the other.
    """
    # Over the tokens that there are: padded to the longest row it would be twice as much memory,
    # whose fresh pages cost more than the arithmetic. NumPy repeats four times as fast as torch.
    value_T = torch.from_numpy(np.repeat(value_R.float().numpy(), length_R.numpy()))
    return value_T.mul_(mask_T)


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
    """J itself, to be maximised: a scalar with the dtype of ``logprob_RL``."""
    # What a masked token holds must reach neither value nor gradient, however large its ratio: it
    # is filled before the exponential, since inf times 0 is nan.
    log_ratio_RL = (logprob_RL - old_logprob_RL).masked_fill(mask_RL == 0, 0.0)
    ratio_RL = log_ratio_RL.exp()
    clipped_RL = ratio_RL.clamp(1 - clip_low, 1 + clip_high)
    advantage_R1 = advantage_R.to(logprob_RL.dtype).unsqueeze(-1)
    # The smaller of the two, so that clipping only ever takes away an incentive (PPO, arXiv
    # 1707.06347, equation 7): a bad ratio on the wrong side keeps its gradient.
    gain_RL = torch.minimum(ratio_RL * advantage_R1, clipped_RL * advantage_R1)
    if ref_logprob_RL is not None and beta:
        gain_RL = gain_RL - beta * kl_to_reference(logprob_RL, ref_logprob_RL, mask_RL)
    return (gain_RL * mask_RL * weight_R.to(logprob_RL.dtype).unsqueeze(-1)).sum()


def kl_to_reference(logprob_RL: Tensor, ref_logprob_RL: Tensor, mask_RL: Tensor) -> Tensor:
    """KL(π_θ || π_ref) per token in nats, by the k3 estimator: r - 1 - log r with r = π_ref/π_θ
    (GRPO, arXiv 2402.03300). 0 where masked.

    Not capped: verl's ``low_var_kl`` ends at 10 nats, beyond which its gradient is 0 and a token
    that has run away is not pulled back.
    """
    log_ratio_RL = (ref_logprob_RL - logprob_RL).masked_fill(mask_RL == 0, 0.0)
    return log_ratio_RL.exp() - 1 - log_ratio_RL


def trajectory_importance(
    old_logprob_RL: Tensor,
    rollout_logprob_RL: Tensor,
    mask_RL: Tensor,
    trajectory_R: Tensor,
    threshold: float,
) -> Tensor:
    """min(π_old(i) / π_rollout(i), threshold) of each row's trajectory i, float64 (R,): the product
    over the tokens of all its turns, where verl's ``rollout_is=sequence`` takes those of one row.
    """
    log_ratio_RL = (old_logprob_RL - rollout_logprob_RL).masked_fill(mask_RL == 0, 0.0)
    # Summed as logarithms: a product of thousands of ratios would leave the range of a float.
    log_ratio_R = log_ratio_RL.sum(-1, dtype=torch.float64)
    trajectory_R, trajectories = _as_positions(trajectory_R)
    log_ratio_I = log_ratio_R.new_zeros(trajectories)
    log_ratio_I = log_ratio_I.index_add(0, trajectory_R, log_ratio_R)
    # Within verl's bounds (rollout_corr_helper.py, SAFETY_BOUND), so that exp cannot overflow.
    return log_ratio_I.clamp(-20, 20).exp().clamp(max=threshold)[trajectory_R]


def _rows_alike(id_R: Tensor, module_R: Tensor, modules: int, counts_R: Tensor) -> Tensor:
    """How many rows that count have each row's id and module."""
    both_R, kinds = _as_positions(_as_positions(id_R)[0] * modules + module_R)
    return counts_R.new_zeros(kinds).index_add(0, both_R, counts_R)[both_R]


def _as_positions(id_R: Tensor) -> tuple[Tensor, int]:
    """Ids as 0..n-1, and n."""
    # Ids may be anything, such as those of a batch from which rows were left out; index_add needs
    # positions without gaps.
    unique, position_R = torch.unique(id_R, return_inverse=True)
    return position_R, len(unique)
