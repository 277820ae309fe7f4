"""Options of the algorithm: ``agentflow.flow_grpo``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from agentflow_verl.config.base import ConfigModel


class FlowGRPO(ConfigModel):
    """The defaults are the paper's objective (arXiv 2510.05592, equations 4 to 7); everything else
    is an ablation.
    """

    statistic: Literal["trajectory", "turn"] = "trajectory"
    """What mean and std run over. ``turn`` counts a trajectory once per turn, as the reference code
    does; with several trained modules once per call of theirs.
    """
    std: bool = True
    """Divide by the group's unbiased standard deviation, as verl's GRPO does; False centres."""
    leave_one_out: bool = False
    """Centre each reward on the mean of the *other* members (RLOO): scales by n / (n - 1)."""
    trajectory_weight: bool = True
    """1/T_i: a trajectory weighs the same whatever its turns. False: every turn of the group weighs
    the same.
    """
    keep_zero_variance: bool = True
    """Whether a group whose rewards are all equal stays in the mean over groups, and keeps its KL
    term.
    """
    min_group: int = Field(2, ge=2)
    """Fewest valid trajectories that a group needs to count at all."""
    eps: float = Field(1e-6, gt=0)
    sequence: Literal["turn", "trajectory"] = "turn"
    """What ``algorithm.rollout_correction.rollout_is=sequence`` multiplies ratios over: the tokens
    of one planner turn, as verl does per row, or of all turns of the trajectory.
    """
