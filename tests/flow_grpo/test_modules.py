"""Several trained modules: value and gradient are the oracle's, and a module weighs the same
however often it was called.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.flow_grpo import oracle, worlds
from tests.flow_grpo.oracle import Group, Options, Trajectory, Turn
from tests.flow_grpo.test_algorithm import SEEDS, close
from tests.flow_grpo.worlds import padded, shuffled, to_rows

MODULES = ("planner", "executor", "generator")
WEIGHTS = st.fixed_dictionaries(dict.fromkeys(MODULES, st.sampled_from((0.5, 1.0, 3.0))))


@settings(max_examples=100, deadline=None)
@given(worlds.worlds(steps=2, modules=MODULES), worlds.options(), WEIGHTS, SEEDS, st.integers(0, 3))
def test_weights_value_and_gradient_are_the_oracles(world, wanted, weights, seed, padding):
    wanted = replace(wanted, modules=weights)
    rows = shuffled(padded(to_rows(world), padding), seed)
    expected = oracle.objective(world, wanted)
    close(rows.advantages(wanted), worlds.expected_advantages(world, rows, wanted))
    close(rows.weights(wanted), worlds.expected_weights(world, rows, wanted))
    value, gradient_RL = rows.value_and_gradient(wanted)
    close(value, torch.tensor(expected.objective, dtype=torch.float64))
    close(gradient_RL, worlds.expected_gradient(expected, rows))


def call(module: str, tokens: int) -> Turn:
    zeros = [0.0] * tokens
    return Turn(zeros, zeros, zeros, [1] * tokens, module)


def loss_of_modules(world: list[Group], wanted: Options) -> dict[str, float]:
    rows = to_rows(world)
    share_R = rows.weights(wanted) * rows.tokens_R
    found = dict.fromkeys(wanted.modules, 0.0)
    for module, share in zip(rows.modules, share_R.tolist()):
        found[module] += share
    return found


def test_a_module_weighs_the_same_however_often_it_was_called_and_as_its_weight_says():
    busy = [call("planner", 3), *[call("executor", 2)] * 5]
    short = [call("planner", 1), call("planner", 4), call("executor", 4)]
    world = [Group([Trajectory(1.0, busy), Trajectory(0.0, short)])]
    equal = Options(modules={"planner": 1.0, "executor": 1.0})
    found = loss_of_modules(world, equal)
    assert abs(found["planner"] - 0.5) < 1e-12 and abs(found["executor"] - 0.5) < 1e-12
    unequal = Options(modules={"planner": 3.0, "executor": 1.0})
    found = loss_of_modules(world, unequal)
    assert abs(found["planner"] - 0.75) < 1e-12 and abs(found["executor"] - 0.25) < 1e-12


def test_the_share_of_a_module_that_was_not_called_goes_to_nobody():
    world = [Group([Trajectory(1.0, [call("planner", 2)]), Trajectory(0.0, [call("planner", 2)])])]
    found = loss_of_modules(world, Options(modules={"planner": 1.0, "executor": 1.0}))
    assert abs(found["planner"] - 0.5) < 1e-12 and found["executor"] == 0.0


@settings(max_examples=50, deadline=None)
@given(worlds.worlds(steps=2), worlds.options())
def test_with_one_module_everything_is_as_without(world, wanted):
    from agentflow_verl.flow_grpo import weights

    rows = to_rows(world)
    columns = (rows.reward_R, rows.trajectory_R, rows.group_R, rows.valid_R, rows.tokens_R)
    plain = weights(*columns, rows.step_R, worlds.algorithm_options(wanted))
    assert torch.equal(rows.weights(wanted), plain)


def test_a_trajectory_that_called_no_trained_module_counts_for_none_in_whatever_order():
    """Its row has the id after the last module's; with one share a row it would thin the rows of
    the module whose id it had.
    """
    from agentflow_verl.flow_grpo import weights

    trajectory_R = torch.tensor([0, 0, 1, 1, 2])
    group_R, valid_R = torch.zeros(5, dtype=torch.long), torch.ones(5, dtype=torch.bool)
    reward_R, tokens_R = torch.tensor([1.0, 1, 0, 0, 0]), torch.tensor([3, 2, 3, 2, 0])
    module_R = torch.tensor([0, 1, 0, 1, 2])
    for trajectory_weight, share in ((True, 1 / 6), (False, 1 / 4)):
        options = worlds.algorithm_options(Options(trajectory_weight=trajectory_weight))
        who = reward_R, trajectory_R, group_R, valid_R, tokens_R, None, options
        weight_R = weights(*who, module_R, torch.tensor([0.5, 0.5]))
        assert torch.allclose(
            weight_R * tokens_R, torch.tensor([*[share] * 4, 0.0]).double(), atol=1e-7
        )
