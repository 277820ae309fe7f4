"""flow_grpo/algorithm.py against the oracle, and the properties that the objective must have."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from agentflow_verl.flow_grpo import (
    FlowGRPO,
    advantages,
    objective,
    trajectory_importance,
    weights,
)
from tests.flow_grpo import oracle, worlds
from tests.flow_grpo.oracle import Group, Options, Trajectory, Turn
from tests.flow_grpo.worlds import padded, shuffled, to_rows

torch.set_num_threads(1)
EXACT = {
    "rtol": 1e-10,
    "atol": 1e-9,
}  # a mean that is off by one unit in the last place, over an eps of 1e-6, is 1e-10
quick = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 2**32)


def close(actual: Tensor, expected: Tensor, **tolerance: float) -> None:
    torch.testing.assert_close(actual, expected, **(tolerance or EXACT))


# ---- equality with the oracle ----


@settings(max_examples=100, deadline=None)
@given(worlds.worlds(steps=3), worlds.options(), SEEDS, st.integers(0, 3))
def test_advantages_weights_objective_and_gradient_are_the_oracles(world, wanted, seed, padding):
    rows = shuffled(padded(to_rows(world), padding), seed)
    expected = oracle.objective(world, wanted)
    close(rows.advantages(wanted), worlds.expected_advantages(world, rows, wanted))
    close(rows.weights(wanted), worlds.expected_weights(world, rows, wanted))
    value, gradient_RL = rows.value_and_gradient(wanted)
    close(value, torch.tensor(expected.objective, dtype=torch.float64))
    close(gradient_RL, worlds.expected_gradient(expected, rows))


@pytest.mark.parametrize(
    "option",
    [
        {"statistic": "turn"},
        {"std": False},
        {"leave_one_out": True},
        {"trajectory_weight": False},
        {"keep_zero_variance": False},
        {"min_group": 3},
        {"eps": 0.5},
    ],
    ids=lambda option: next(iter(option)),
)
def test_each_option_does_what_the_oracle_says_and_is_not_the_default(option):
    world = example_world()
    rows, wanted = to_rows(world), Options(**option)
    advantage_R, weight_R = rows.advantages(wanted), rows.weights(wanted)
    close(advantage_R, worlds.expected_advantages(world, rows, wanted))
    close(weight_R, worlds.expected_weights(world, rows, wanted))
    default = Options()
    changed = (advantage_R - rows.advantages(default)).abs().max() + (
        weight_R - rows.weights(default)
    ).abs().max()
    assert changed > 1e-3


def test_a_hand_computed_batch():
    """Rewards 1, 0, 0 over trajectories of 1, 2 and 1 turns: mean 1/3, unbiased std sqrt(1/3)."""
    world = [
        Group(
            [
                Trajectory(1.0, [turn(2)]),
                Trajectory(0.0, [turn(4), turn(1)]),
                Trajectory(0.0, [turn(1)]),
            ]
        )
    ]
    rows = to_rows(world)
    high, low = 2 / 3**0.5, -1 / 3**0.5
    close(
        rows.advantages(Options(eps=1e-12)),
        torch.tensor([high, low, low, low], dtype=torch.float64),
    )
    close(rows.weights(Options()), torch.tensor([1 / 6, 1 / 24, 1 / 6, 1 / 3], dtype=torch.float64))
    value, _ = rows.value_and_gradient(
        Options()
    )  # on policy, J is the mean advantage of the trajectories: 0
    close(value, torch.tensor(0.0, dtype=torch.float64))


# ---- what must not change anything ----


@quick
@given(worlds.worlds(steps=2), worlds.options(), SEEDS)
def test_the_order_of_rows_changes_nothing(world, wanted, seed):
    rows = to_rows(world)
    mixed = shuffled(rows, seed)
    back = [mixed.place.index(spot) for spot in rows.place]
    close(mixed.advantages(wanted)[back], rows.advantages(wanted))
    close(mixed.weights(wanted)[back], rows.weights(wanted))
    value, gradient_RL = rows.value_and_gradient(wanted)
    mixed_value, mixed_gradient_RL = mixed.value_and_gradient(wanted)
    close(mixed_value, value)
    close(mixed_gradient_RL[back], gradient_RL)


@quick
@given(worlds.worlds(), worlds.options(), st.integers(1, 5), st.integers(1, 3))
def test_padding_rows_and_padding_tokens_change_nothing(world, wanted, count, width):
    rows = to_rows(world)
    more = padded(to_rows(world, length=4 + width), count)
    value, gradient_RL = rows.value_and_gradient(wanted)
    more_value, more_gradient_RL = more.value_and_gradient(wanted)
    close(more_value, value)
    close(more_gradient_RL[:-count, :4], gradient_RL)
    assert not more_gradient_RL[-count:].any()
    assert not more_gradient_RL[:, 4:].any()


@quick
@given(worlds.worlds(steps=2), worlds.options(), SEEDS, st.integers(1, 6))
def test_micro_batches_add_up(world, wanted, seed, parts):
    rows = shuffled(to_rows(world), seed)
    value, gradient_RL = rows.value_and_gradient(wanted)
    advantage_R, weight_R = rows.advantages(wanted), rows.weights(wanted)
    total, gradient = torch.zeros((), dtype=torch.float64), torch.zeros_like(gradient_RL)
    for part in range(parts):
        picked = list(range(part, len(rows.place), parts))
        some = rows.take(picked)
        some = replace(some, new_RL=some.new_RL.requires_grad_())
        piece = some.objective(wanted, advantage_R[picked], weight_R[picked])
        total = total + piece.detach()
        gradient[picked] = torch.autograd.grad(piece, some.new_RL)[0]
    close(total, value)
    close(gradient, gradient_RL)


@quick
@given(worlds.worlds(steps=2), worlds.options(), SEEDS)
def test_only_which_ids_are_equal_matters(world, wanted, seed):
    rows = to_rows(world)
    generator = torch.Generator().manual_seed(seed % 2**31)

    def renamed(id_R: Tensor) -> Tensor:
        unique, position_R = torch.unique(id_R, return_inverse=True)
        return (torch.randperm(len(unique), generator=generator) * 1009 - 5000)[position_R]

    other = replace(rows, trajectory_R=renamed(rows.trajectory_R), group_R=renamed(rows.group_R))
    close(other.advantages(wanted), rows.advantages(wanted))
    close(other.weights(wanted), rows.weights(wanted))


@quick
@given(worlds.worlds(steps=2), worlds.options())
def test_infrastructure_faults_leave_the_statistics_and_the_loss(world, wanted):
    """Dropping the invalid trajectories from the batch altogether gives the same for those that
    stay.
    """
    rows = to_rows(world)
    rows.reward_R[~rows.valid_R] = 1e6
    kept = [row for row in range(len(rows.place)) if rows.valid_R[row]]
    assume(kept)
    close(rows.advantages(wanted)[kept], rows.take(kept).advantages(wanted))
    close(rows.weights(wanted)[kept], rows.take(kept).weights(wanted))
    assert not rows.advantages(wanted)[~rows.valid_R].any()
    assert not rows.weights(wanted)[~rows.valid_R].any()


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("keep_zero_variance", [True, False])
def test_a_faulted_trajectory_without_a_reward_poisons_nothing(garbage, keep_zero_variance):
    rows = to_rows(example_world())
    wanted = Options(keep_zero_variance=keep_zero_variance)
    before = rows.advantages(wanted), rows.weights(wanted)
    rows.reward_R[~rows.valid_R] = garbage
    close(rows.advantages(wanted), before[0])
    close(rows.weights(wanted), before[1])


# ---- scale and shift ----


@quick
@given(
    worlds.worlds(),
    st.sampled_from((0.25, 2.0, 8.0)),
    st.sampled_from((-4.0, 0.5, 16.0)),
    st.booleans(),
)
def test_rewards_can_be_scaled_and_shifted(world, scale, shift, leave_one_out):
    other = deepcopy(world)
    for group in other:
        for trajectory in group.trajectories:
            trajectory.reward = trajectory.reward * scale + shift
    tight = Options(eps=1e-13, leave_one_out=leave_one_out)
    spread = [
        len({t.reward for t in g.trajectories if t.valid}) > 1 for g in world
    ]  # of none, rounding alone is left to scale
    rows, moved = to_rows(world), to_rows(other)
    varied = torch.tensor([spread[spot[0]] for spot in rows.place])
    close(moved.advantages(tight)[varied], rows.advantages(tight)[varied], rtol=1e-6, atol=1e-6)
    centred = Options(std=False, leave_one_out=leave_one_out)
    close(moved.advantages(centred), rows.advantages(centred) * scale)


# ---- groups ----


@quick
@given(worlds.worlds(max_turns=1, valid=True, min_tokens=1, min_group=2), st.booleans())
def test_trajectories_of_one_turn_have_the_advantage_of_verls_grpo(world, std):
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

    rows = to_rows(world)
    reward_RL = torch.zeros_like(rows.new_RL)
    reward_RL[:, 0] = rows.reward_R
    verls, _ = compute_grpo_outcome_advantage(
        reward_RL,
        rows.mask_RL,
        index=rows.group_R.numpy(),
        epsilon=1e-6,
        norm_adv_by_std_in_grpo=std,
    )
    close(
        rows.advantages(Options(std=std)).unsqueeze(-1) * rows.mask_RL, verls, rtol=1e-8, atol=1e-8
    )


@quick
@given(worlds.worlds(min_tokens=1), worlds.REWARDS)
def test_a_group_of_one_contributes_nothing_and_is_not_counted(world, reward):
    lonely = Group([Trajectory(reward, [turn(2)])])
    fault = Group([Trajectory(reward, [turn(2)]), Trajectory(0.5, [turn(1)], valid=False)])
    alone, wanted = to_rows(world), Options(beta=0.1)
    rows = to_rows([*world, lonely, fault])
    added = 3
    assert not rows.advantages(wanted)[-added:].any()
    assert not rows.weights(wanted)[-added:].any()
    close(rows.weights(wanted)[:-added], alone.weights(wanted))
    value, gradient_RL = rows.value_and_gradient(wanted)
    close(value, alone.value_and_gradient(wanted)[0])
    assert not gradient_RL[-added:].any()


@quick
@given(worlds.worlds(min_tokens=1, min_group=2, valid=True), worlds.REWARDS, st.integers(2, 7))
def test_equal_rewards_have_no_advantage_and_may_leave_the_count(world, reward, size):
    flat = Group([Trajectory(reward, [turn(1)] * (1 + number % 3)) for number in range(size)])
    rows = to_rows([*world, flat])
    is_flat = torch.tensor([spot[0] == len(world) for spot in rows.place])
    kept, dropped = Options(), Options(keep_zero_variance=False)
    close(
        rows.advantages(kept)[is_flat],
        torch.zeros(int(is_flat.sum()), dtype=torch.float64),
        rtol=0,
        atol=1e-7,
    )
    close(
        (rows.weights(kept) * rows.tokens_R)[is_flat].sum(),
        torch.tensor(1 / (len(world) + 1), dtype=torch.float64),
    )
    assert not rows.weights(dropped)[is_flat].any()
    close(rows.weights(dropped)[~is_flat], to_rows(world).weights(dropped))


# ---- the mass of the objective ----


@quick
@given(worlds.worlds(steps=3, min_tokens=1), worlds.options())
def test_the_weights_of_a_step_times_tokens_sum_to_one(world, wanted):
    rows = to_rows(world)
    mass_R = rows.weights(wanted) * rows.tokens_R
    for step in {group.step for group in world}:
        counted = any(group.step == step and oracle.counts(group, wanted) for group in world)
        close(mass_R[rows.step_R == step].sum(), torch.tensor(float(counted), dtype=torch.float64))


def test_a_turn_without_tokens_still_counts_as_a_turn():
    world = [
        Group(
            [Trajectory(1.0, [turn(2), Turn([0.0], [0.0], [0.0], [0])]), Trajectory(0.0, [turn(1)])]
        )
    ]
    close(to_rows(world).weights(Options()), torch.tensor([1 / 8, 0.0, 1 / 2], dtype=torch.float64))


def test_long_and_short_trajectories_weigh_the_same():
    world = [Group([Trajectory(1.0, [turn(4)] * 3), Trajectory(0.0, [turn(1)])])]
    rows = to_rows(world)
    mass_R = rows.weights(Options()) * rows.tokens_R
    close(mass_R[:3].sum(), mass_R[3])
    by_turn_R = rows.weights(Options(trajectory_weight=False)) * rows.tokens_R
    close(by_turn_R, torch.full((4,), 0.25, dtype=torch.float64))


# ---- numbers ----


@quick
@given(worlds.worlds(min_tokens=1, min_group=2, valid=True))
def test_bfloat16_rewards_lose_nothing(world):
    rows = to_rows(world)
    half = replace(rows, reward_R=rows.reward_R.to(torch.bfloat16))
    assert half.advantages(Options()).dtype == torch.float64
    close(half.advantages(Options()), rows.advantages(Options()))
    close(half.weights(Options()), rows.weights(Options()))


@quick
@given(worlds.worlds(min_tokens=1, min_group=2, valid=True))
def test_bfloat16_log_probabilities_give_the_objective_to_their_precision(world):
    rows, wanted = to_rows(world), Options(beta=0.1)
    half = {name: getattr(rows, name).to(torch.bfloat16) for name in ("new_RL", "old_RL", "ref_RL")}
    exact = replace(rows, **{name: value.double() for name, value in half.items()})
    advantage_R, weight_R = rows.advantages(wanted), rows.weights(wanted)
    value = replace(rows, **half).objective(wanted, advantage_R, weight_R)
    assert value.dtype == torch.bfloat16
    size = (advantage_R.abs() * 2 + 1) @ (weight_R * rows.tokens_R)
    assert abs(
        float(value) - float(exact.objective(wanted, advantage_R, weight_R))
    ) <= 0.05 * float(size)


def test_masked_tokens_may_hold_anything():
    """A masked token's ratio overflows; value and gradient stay finite and the same."""
    rows, wanted = to_rows(example_world()), Options(beta=0.1)
    value, gradient_RL = rows.value_and_gradient(wanted)
    masked = rows.mask_RL == 0
    assert masked.any()
    wild = replace(
        rows,
        new_RL=rows.new_RL.masked_fill(masked, 0.0),
        old_RL=rows.old_RL.masked_fill(masked, -1e4),
    )
    wild_value, wild_gradient_RL = wild.value_and_gradient(wanted)
    close(wild_value, value)
    close(wild_gradient_RL, gradient_RL)


def test_an_empty_batch_is_empty():
    none = torch.zeros(0)
    ids = torch.zeros(0, dtype=torch.long)
    assert advantages(none, ids, ids, none.bool()).shape == (0,)
    assert weights(none, ids, ids, none.bool(), ids).shape == (0,)


@pytest.mark.parametrize(
    "wrong", [{"statistic": "rows"}, {"min_group": 1}, {"eps": 0.0}, {"eps": float("nan")}]
)
def test_options_refuse_nonsense(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FlowGRPO(**wrong)


# ---- bugs of others: each check passes here and fails on the bug ----


def check_more_turns_move_no_advantage(advantage_of) -> None:
    """A trajectory that takes two more turns says nothing about the rewards."""
    short = [
        Group([Trajectory(1.0, [turn(1)]), Trajectory(0.0, [turn(1)]), Trajectory(0.0, [turn(1)])])
    ]
    long = deepcopy(short)
    long[0].trajectories[0].turns += [turn(1), turn(1)]
    close(advantage_of(to_rows(long))[[0, 3, 4]], advantage_of(to_rows(short)))


def test_verl_agent_138_normalisation_over_turn_rows():
    def over_rows(rows: worlds.Rows) -> Tensor:
        advantage_R = torch.zeros_like(rows.reward_R)
        for group in rows.group_R.unique():
            chosen = rows.group_R == group
            reward_R = rows.reward_R[chosen]
            advantage_R[chosen] = (reward_R - reward_R.mean()) / (reward_R.std() + 1e-6)
        return advantage_R

    check_more_turns_move_no_advantage(lambda rows: rows.advantages(Options()))
    with pytest.raises(AssertionError):
        check_more_turns_move_no_advantage(over_rows)


def check_a_group_of_one_has_no_advantage(advantage_of) -> None:
    rows = to_rows([Group([Trajectory(1.0, [turn(2)])])])
    assert not advantage_of(rows).any()


def test_verl_raw_reward_for_a_group_of_one():
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

    def verls(rows: worlds.Rows) -> Tensor:
        reward_RL = torch.zeros_like(rows.new_RL)
        reward_RL[:, 0] = rows.reward_R
        return compute_grpo_outcome_advantage(reward_RL, rows.mask_RL, index=rows.group_R.numpy())[
            0
        ]

    check_a_group_of_one_has_no_advantage(lambda rows: rows.advantages(Options()))
    with pytest.raises(AssertionError):
        check_a_group_of_one_has_no_advantage(verls)


def check_padding_weighs_nothing(weight_of) -> None:
    rows = to_rows([Group([Trajectory(1.0, [turn(2)]), Trajectory(0.0, [turn(2)])])])
    more = padded(rows, 2)
    weight_R = weight_of(more)
    close(weight_R[:2], rows.weights(Options()))
    assert not weight_R[2:].any()


def test_padding_is_not_a_group_of_its_own():
    def counting_padding(rows: worlds.Rows) -> Tensor:
        return replace(rows, valid_R=torch.ones_like(rows.valid_R)).weights(Options())

    check_padding_weighs_nothing(lambda rows: rows.weights(Options()))
    with pytest.raises(AssertionError):
        check_padding_weighs_nothing(counting_padding)


def check_every_turn_has_its_own_mask(objective_of) -> None:
    first = Turn([-1.0, -1.0], [-1.2, -1.1], [-1.0, -1.0], [1, 1])
    last = Turn([-2.0, -2.0], [-2.1, -2.3], [-2.0, -2.0], [0, 1])
    world = [Group([Trajectory(1.0, [first, last]), Trajectory(0.0, [turn(2)])])]
    rows = to_rows(world)
    expected = oracle.objective(world, Options()).objective
    close(objective_of(rows), torch.tensor(expected, dtype=torch.float64))


def test_skyrl_1492_mask_of_the_last_step_on_every_step():
    def ours(rows: worlds.Rows) -> Tensor:
        return rows.objective(Options(), rows.advantages(Options()), rows.weights(Options()))

    def last_mask(rows: worlds.Rows) -> Tensor:
        last = {int(trajectory): row for row, trajectory in enumerate(rows.trajectory_R)}
        mask_RL = rows.mask_RL[[last[int(trajectory)] for trajectory in rows.trajectory_R]]
        return ours(replace(rows, mask_RL=mask_RL))

    check_every_turn_has_its_own_mask(ours)
    with pytest.raises(AssertionError):
        check_every_turn_has_its_own_mask(last_mask)


def test_the_clip_takes_the_lower_bound():
    """For A > 0 a ratio over 1 + eps earns no more; for A < 0 a large one still costs all of it."""
    one = torch.ones(1, 1, dtype=torch.float64)
    for advantage, expected in ((1.0, 1.2), (-1.0, -2.0)):
        value = objective(
            one.log() + torch.log(2 * one), one.log(), one, torch.tensor([advantage]), torch.ones(1)
        )
        close(value, torch.tensor(expected, dtype=torch.float64))


# ---- examples ----


def turn(tokens: int) -> Turn:
    """A turn on policy: ratio 1, no divergence."""
    return Turn([-1.0] * tokens, [-1.0] * tokens, [-1.0] * tokens, [1] * tokens)


def example_world() -> list[Group]:
    """Unequal turns and tokens, a masked token, a fault, a flat group, a thin group."""
    return [
        Group(
            [
                Trajectory(
                    1.0,
                    [
                        Turn([-1.0, -0.5, -2.0], [-1.2, -0.9, -2.0], [-1.1, -0.5, -1.9], [1, 1, 0]),
                        turn(1),
                    ],
                ),
                Trajectory(0.0, [turn(4)]),
                Trajectory(0.25, [turn(1), turn(2), turn(3)]),
                Trajectory(1.0, [turn(1)], valid=False),
            ]
        ),
        Group([Trajectory(1.0, [turn(2), turn(1)]), Trajectory(1.0, [turn(3)])]),
        Group([Trajectory(0.0, [turn(1)]), Trajectory(1.0, [turn(1)] * 2)]),
    ]


def test_importance_is_a_trajectorys_product_up_to_the_threshold_and_ignores_masked_tokens():
    """exp(0.1 + 0.2 + 0.3), exp(2.0) cut at 3, and one trajectory of masked tokens alone."""
    nan, inf = float("nan"), float("inf")
    old = torch.tensor([[0.1, 0.2], [0.3, nan], [2.0, inf], [5.0, 5.0]])
    mask = torch.tensor([[1, 1], [1, 0], [1, 0], [0, 0]])
    ratio = trajectory_importance(
        old, torch.zeros_like(old), mask, torch.tensor([7, 7, 3, 5]), threshold=3.0
    )
    assert ratio.tolist() == pytest.approx([math.exp(0.6)] * 2 + [3.0, 1.0], rel=1e-6)
