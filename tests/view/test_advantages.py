"""The advantages that a page shows are those that the algorithm gives the same group."""

from __future__ import annotations

import dataclasses
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.config.schema import AgentflowConfig
from agentflow_verl.core.errors import InfraError
from agentflow_verl.flow_grpo import FlowGRPO, advantages
from agentflow_verl.trajectories.run_folder import Run
from agentflow_verl.view.advantages import Estimator, advantages_of
from tests.view.logs import RUN, groups, scored, trajectory, write


def entries(folder):
    run = Run(folder)
    run.refresh()
    return run.entries


def members_of(log, uid):
    return sorted((entry for entry in log if entry.group == uid), key=lambda entry: entry.session)


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.25, 1.0]), st.integers(1, 4)), min_size=1, max_size=6
    ),
    st.builds(
        FlowGRPO,
        statistic=st.sampled_from(["trajectory", "turn"]),
        std=st.booleans(),
        leave_one_out=st.booleans(),
        min_group=st.integers(2, 4),
        keep_zero_variance=st.booleans(),
    ),
)
def test_they_are_the_algorithms(group, options):
    rows = [(reward, number) for number, (reward, turns) in enumerate(group) for _ in range(turns)]
    reward_R, trajectory_R = (torch.tensor(column) for column in zip(*rows))
    expected_R = advantages(
        reward_R,
        trajectory_R,
        torch.zeros_like(trajectory_R),
        torch.ones_like(trajectory_R, dtype=torch.bool),
        options,
    )
    expected = [
        float(expected_R[[number for _, number in rows].index(number)])
        for number in range(len(group))
    ]
    estimator = Estimator.from_config({"agentflow": {"flow_grpo": options.model_dump()}})
    assert estimator.advantages(*zip(*group)) == pytest.approx(expected, abs=1e-9)


def test_defaults_are_the_algorithms_and_another_estimator_has_none_of_ours():
    usual = FlowGRPO().model_dump()
    options = dataclasses.asdict(Estimator.from_config({}))
    assert options.pop("trained") == AgentflowConfig().train
    assert options == {name: usual[name] for name in options}
    assert Estimator.from_config({"algorithm": {"adv_estimator": "grpo"}}) is None
    assert advantages_of(entries(RUN)[:4], None) == [None] * 4


def test_rewards_less_the_kl_are_not_in_the_log_so_there_are_no_advantages_to_show():
    assert Estimator.from_config({"algorithm": {"use_kl_in_reward": True}}) is None
    assert Estimator.from_config({"algorithm": {"use_kl_in_reward": False}}) == Estimator()


def test_a_recorded_groups_rewards_are_normalised():
    log = entries(RUN)
    for (split, _, uid), lines in groups().items():
        rewards = [line["reward"] for line in lines]
        expected = [None] * len(lines)
        if split == "train":
            expected = [
                pytest.approx(
                    (reward - statistics.mean(rewards)) / (statistics.stdev(rewards) + 1e-6)
                )
                for reward in rewards
            ]
        assert advantages_of(members_of(log, uid), Estimator()) == expected


def test_rows_are_calls_of_trained_modules(tmp_path):
    """Where turns are the statistic, three plans and a call weigh twice what one of each does."""
    made = trajectory()
    log = entries(write(tmp_path, scored(made, reward=1.0), scored(made, session=1, reward=0.0)))
    first = dataclasses.replace(log[0], calls={"planner": 3, "executor": 1, "verifier": 5})
    second = dataclasses.replace(log[1], calls={"planner": 1, "executor": 1})
    node = {
        "train": ["planner", "executor"],
        "flow_grpo": {**FlowGRPO().model_dump(), "statistic": "turn", "std": False},
    }
    estimator = Estimator.from_config({"agentflow": node})
    assert advantages_of([first, second], estimator) == pytest.approx([1 - 4 / 6, 0 - 4 / 6])


def test_a_fault_has_no_advantage_and_moves_no_other(tmp_path):
    made = trajectory()
    fault = trajectory(planner=[InfraError("the server is gone")])
    rows = [
        scored(made, session=0, reward=1.0),
        scored(made, session=1, reward=0.0),
        scored(fault, session=2, reward=None),
    ]
    log = entries(write(tmp_path, *rows))
    assert advantages_of(log, Estimator()) == [
        pytest.approx(0.7071, abs=1e-4),
        pytest.approx(-0.7071, abs=1e-4),
        None,
    ]
