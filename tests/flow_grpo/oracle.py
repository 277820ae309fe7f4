"""The paper's objective, as slow and as obvious as it can be written: loops over plain Python
floats.

A world is a list of groups, a group a list of trajectories, a trajectory a list of turns. Nothing
here knows rows, tensors or scatter, and nothing is shared with
agentflow_verl/flow_grpo/algorithm.py but the names of its options.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class Turn:
    """One reply of a trained module: a value a token; a token with mask 0 is not trained."""

    new: list[float]
    old: list[float]
    ref: list[float]
    mask: list[int]
    module: str = "planner"

    @property
    def tokens(self) -> int:
        return sum(self.mask)


@dataclass
class Trajectory:
    reward: float
    turns: list[Turn]
    valid: bool = True


@dataclass
class Group:
    trajectories: list[Trajectory]
    step: int = 0

    def members(self) -> list[Trajectory]:
        return [trajectory for trajectory in self.trajectories if trajectory.valid]


@dataclass
class Options:
    statistic: str = "trajectory"
    std: bool = True
    leave_one_out: bool = False
    trajectory_weight: bool = True
    keep_zero_variance: bool = True
    min_group: int = 2
    eps: float = 1e-6
    clip_low: float = 0.2
    clip_high: float = 0.2
    beta: float = 0.0
    modules: dict[str, float] = field(default_factory=lambda: {"planner": 1.0})

    def share(self, module: str) -> float:
        """The module's part of a trajectory's loss."""
        return self.modules[module] / sum(self.modules.values())


@dataclass
class Value:
    """J, and its derivative with respect to every token's log-probability."""

    objective: float = 0.0
    gradient: dict[tuple[int, int, int, int], float] = field(default_factory=dict)


def counts(group: Group, options: Options) -> bool:
    """Whether the group is one of the N."""
    rewards = [trajectory.reward for trajectory in group.members()]
    if len(rewards) < options.min_group:
        return False
    return options.keep_zero_variance or any(reward != rewards[0] for reward in rewards)


def advantage(group: Group, trajectory: Trajectory, options: Options) -> float:
    """A_i = (R_i - mean) / (std + eps)."""
    if not trajectory.valid or not counts(group, options):
        return 0.0
    rewards = []  # what mean and std run over
    for member in group.members():
        times = 1 if options.statistic == "trajectory" else len(member.turns)
        rewards += [member.reward] * times
    mean = sum(rewards) / len(rewards)
    if options.leave_one_out:
        others = list(rewards)
        others.remove(trajectory.reward)
        centred = trajectory.reward - sum(others) / len(others)
    else:
        centred = trajectory.reward - mean
    if not options.std:
        return centred
    variance = 0.0
    for reward in rewards:
        variance += (reward - mean) ** 2
    return centred / (math.sqrt(variance / (len(rewards) - 1)) + options.eps)


def weight(
    world: list[Group], group: Group, trajectory: Trajectory, turn: Turn, options: Options
) -> float:
    """What one token of the turn weighs: 1 / (N G T_i |a_it|), where T_i counts the replies of its
    module, times the module's share.
    """
    if not trajectory.valid or not counts(group, options) or turn.tokens == 0:
        return 0.0
    groups = 0
    for other in world:
        if other.step == group.step and counts(other, options):
            groups += 1
    share = options.share(turn.module)
    if options.trajectory_weight:
        calls = replies_of(turn.module, [trajectory])
        return share / (groups * len(group.members()) * calls * turn.tokens)
    return share / (groups * replies_of(turn.module, group.members()) * turn.tokens)


def replies_of(module: str, trajectories: list[Trajectory]) -> int:
    count = 0
    for trajectory in trajectories:
        for turn in trajectory.turns:
            count += turn.module == module
    return count


def objective(world: list[Group], options: Options) -> Value:
    """Equation 5, token by token."""
    value = Value()
    for g, group in enumerate(world):
        for i, trajectory in enumerate(group.trajectories):
            gain = advantage(group, trajectory, options)
            for t, turn in enumerate(trajectory.turns):
                share = weight(world, group, trajectory, turn, options)
                for j in range(len(turn.new)):
                    value.gradient[g, i, t, j] = 0.0
                    if not turn.mask[j] or share == 0.0:
                        continue
                    ratio = math.exp(turn.new[j] - turn.old[j])
                    clipped = min(max(ratio, 1 - options.clip_low), 1 + options.clip_high)
                    term = min(ratio * gain, clipped * gain)
                    slope = ratio * gain if ratio * gain <= clipped * gain else 0.0
                    if options.beta:
                        reference = math.exp(turn.ref[j] - turn.new[j])
                        term -= options.beta * (reference - 1 - (turn.ref[j] - turn.new[j]))
                        slope -= options.beta * (1 - reference)
                    value.objective += share * term
                    value.gradient[g, i, t, j] = share * slope
    return value
