"""Random worlds for the oracle, and the same worlds as rows of tensors for the code under test."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from agentflow_verl.flow_grpo import FlowGRPO, advantages, objective, weights
from tests.flow_grpo import oracle
from tests.flow_grpo.oracle import Group, Options, Trajectory, Turn

REWARDS = st.integers(-8, 16).map(
    lambda eighths: eighths / 8
)  # exact in bfloat16, so ties are ties
LOGPROB = st.integers(-300, 0).map(lambda hundredths: hundredths / 100)
SHIFT = st.sampled_from(
    (-0.7, -0.3, -0.15, 0.0, 0.0, 0.11, 0.15, 0.25, 0.6)
)  # both sides of the clip range


@st.composite
def turns(draw: st.DrawFn, min_tokens: int = 0, modules: Sequence[str] = ("planner",)) -> Turn:
    length = draw(st.integers(max(1, min_tokens), 4))
    old = draw(st.lists(LOGPROB, min_size=length, max_size=length))
    new = [value + draw(SHIFT) for value in old]
    ref = [value + draw(SHIFT) for value in old]
    mask = draw(st.lists(st.sampled_from((1, 1, 1, 0)), min_size=length, max_size=length))
    if sum(mask) < min_tokens:
        mask = [1] * length
    return Turn(new, old, ref, mask, draw(st.sampled_from(modules)))


@st.composite
def worlds(
    draw: st.DrawFn,
    steps: int = 1,
    min_tokens: int = 0,
    valid: bool = False,
    max_turns: int = 3,
    min_group: int = 1,
    modules: Sequence[str] = ("planner",),
) -> list[Group]:
    """``valid``: every trajectory is. ``min_group``: fewest trajectories of a group."""
    trajectories = st.builds(
        Trajectory,
        reward=REWARDS,
        turns=st.lists(turns(min_tokens, modules), min_size=1, max_size=max_turns),
        valid=st.just(True) if valid else st.sampled_from((True, True, True, False)),
    )
    groups = st.builds(
        Group,
        st.lists(trajectories, min_size=min_group, max_size=5),
        step=st.integers(0, steps - 1),
    )
    return draw(st.lists(groups, min_size=1, max_size=4))


def options() -> st.SearchStrategy[Options]:
    return st.builds(
        Options,
        statistic=st.sampled_from(("trajectory", "turn")),
        std=st.booleans(),
        leave_one_out=st.booleans(),
        trajectory_weight=st.booleans(),
        keep_zero_variance=st.booleans(),
        min_group=st.integers(2, 4),
        clip_low=st.sampled_from((0.1, 0.2)),
        clip_high=st.sampled_from((0.2, 0.28)),
        beta=st.sampled_from((0.0, 0.001, 0.5)),
    )


def algorithm_options(wanted: Options) -> FlowGRPO:
    names = (
        "statistic",
        "std",
        "leave_one_out",
        "trajectory_weight",
        "keep_zero_variance",
        "min_group",
        "eps",
    )
    return FlowGRPO(**{name: getattr(wanted, name) for name in names})


@dataclass
class Rows:
    """Columns of a batch; ``place`` says which (group, trajectory, turn) a row is, None for
    padding.
    """

    place: list[tuple[int, int, int] | None]
    reward_R: Tensor
    trajectory_R: Tensor
    group_R: Tensor
    valid_R: Tensor
    step_R: Tensor
    new_RL: Tensor
    old_RL: Tensor
    ref_RL: Tensor
    mask_RL: Tensor
    modules: list[str]

    @property
    def tokens_R(self) -> Tensor:
        return self.mask_RL.sum(-1)

    def take(self, rows: list[int]) -> Rows:
        tensors = {
            name: value[rows] for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return Rows(
            place=[self.place[row] for row in rows],
            modules=[self.modules[row] for row in rows],
            **tensors,
        )

    def advantages(self, wanted: Options) -> Tensor:
        return advantages(
            self.reward_R, self.trajectory_R, self.group_R, self.valid_R, algorithm_options(wanted)
        )

    def weights(self, wanted: Options) -> Tensor:
        columns = (
            self.reward_R,
            self.trajectory_R,
            self.group_R,
            self.valid_R,
            self.tokens_R,
            self.step_R,
        )
        names = list(wanted.modules)
        module_R = torch.tensor(list(map(names.index, self.modules)), dtype=torch.long)
        weight_M = torch.tensor(list(map(wanted.share, names)), dtype=torch.float64)
        return weights(*columns, algorithm_options(wanted), module_R, weight_M)

    def objective(self, wanted: Options, advantage_R: Tensor, weight_R: Tensor) -> Tensor:
        return objective(
            self.new_RL,
            self.old_RL,
            self.mask_RL,
            advantage_R,
            weight_R,
            wanted.clip_low,
            wanted.clip_high,
            self.ref_RL,
            wanted.beta,
        )

    def value_and_gradient(self, wanted: Options) -> tuple[Tensor, Tensor]:
        rows = replace(self, new_RL=self.new_RL.clone().requires_grad_())
        value = rows.objective(wanted, rows.advantages(wanted), rows.weights(wanted))
        (gradient_RL,) = torch.autograd.grad(value, rows.new_RL)
        return value.detach(), gradient_RL


def to_rows(world: list[Group], length: int = 4) -> Rows:
    """One row a turn, in order; the ids are neither small nor sorted nor neighbours."""
    place, reward, trajectory, group, valid, step, new, old, ref, mask = ([] for _ in range(10))
    modules: list[str] = []
    for g, members in enumerate(world):
        for i, member in enumerate(members.trajectories):
            for t, turn in enumerate(member.turns):
                spare = length - len(turn.new)
                place.append((g, i, t))
                modules.append(turn.module)
                reward.append(member.reward)
                trajectory.append((7919 * (10 * g + i) + 13) % 104729)
                group.append((31 * g + 5) % 97)
                valid.append(member.valid)
                step.append(members.step)
                new.append(turn.new + [-1.5] * spare)
                old.append(turn.old + [-0.5] * spare)
                ref.append(turn.ref + [-2.5] * spare)
                mask.append(turn.mask + [0] * spare)
    floats = {"dtype": torch.float64}
    return Rows(
        place,
        torch.tensor(reward, **floats),
        torch.tensor(trajectory),
        torch.tensor(group),
        torch.tensor(valid, dtype=torch.bool),
        torch.tensor(step),
        torch.tensor(new, **floats),
        torch.tensor(old, **floats),
        torch.tensor(ref, **floats),
        torch.tensor(mask),
        modules,
    )


def shuffled(rows: Rows, seed: int) -> Rows:
    order = list(range(len(rows.place)))
    random.Random(seed).shuffle(order)
    return rows.take(order)


def padded(rows: Rows, count: int, step: int = 0) -> Rows:
    """``count`` invalid rows more, one group and a trajectory each, as verl pads; their reward is
    far off.
    """

    def more(column: Tensor, value: float | list[int]) -> Tensor:
        return torch.cat(
            [column, torch.as_tensor(value).to(column.dtype).expand(count, *column.shape[1:])]
        )

    new_ids = torch.arange(count) + 900_000
    return Rows(
        place=[*rows.place, *[None] * count],
        reward_R=more(rows.reward_R, 1000.0),
        trajectory_R=torch.cat([rows.trajectory_R, new_ids]),
        group_R=more(rows.group_R, 777),
        valid_R=more(rows.valid_R, False),
        step_R=more(rows.step_R, step),
        new_RL=more(rows.new_RL, 0.0),
        old_RL=more(rows.old_RL, -3.0),
        ref_RL=more(rows.ref_RL, 0.0),
        modules=[*rows.modules, *rows.modules[:1] * count],
        mask_RL=more(rows.mask_RL, 1),  # even an unmasked padding row must count for nothing
    )


def expected_advantages(world: list[Group], rows: Rows, wanted: Options) -> Tensor:
    values = []
    for spot in rows.place:
        group = world[spot[0]] if spot else None
        values.append(
            oracle.advantage(group, group.trajectories[spot[1]], wanted) if group else 0.0
        )
    return torch.tensor(values, dtype=torch.float64)


def expected_weights(world: list[Group], rows: Rows, wanted: Options) -> Tensor:
    values = []
    for spot in rows.place:
        if spot is None:
            values.append(0.0)
            continue
        g, i, t = spot
        trajectory = world[g].trajectories[i]
        values.append(oracle.weight(world, world[g], trajectory, trajectory.turns[t], wanted))
    return torch.tensor(values, dtype=torch.float64)


def expected_gradient(value: oracle.Value, rows: Rows) -> Tensor:
    gradient_RL = torch.zeros_like(rows.new_RL)
    for row, spot in enumerate(rows.place):
        for j in range(gradient_RL.shape[1] if spot else 0):
            gradient_RL[row, j] = value.gradient.get((*spot, j), 0.0)
    return gradient_RL
