"""Several trained modules through verl's real queue and our trainer: each row weighs what the
oracle says, with the weights of the configuration.
"""

from __future__ import annotations

from typing import Any

import pytest

from agentflow_verl.trainer.rollout.rows import to_rows
from agentflow_verl.trajectories.records import ModuleReply, Outcome, Tokens, Trajectory, Turn
from tests.config.test_hydra import hydra  # noqa: F401 - a fixture, used by name
from tests.flow_grpo import oracle
from tests.trainer.test_batch import (
    FAULT,
    assert_weighed,
    empty_after,  # noqa: F401 - a fixture, used by itself
    put,
    queue,  # noqa: F401 - the same
    scored,
    weigh,
)

TRAINED = ("planner", "executor", "verifier")
WEIGHTS = {"planner": 1.0, "executor": 3.0, "verifier": 0.5}
OVERRIDES = (
    "agentflow.train=[planner,executor,verifier]",
    "agentflow.engines.executor=policy",
    "agentflow.engines.verifier=policy",
    "agentflow.train_weights.executor=3",
    "agentflow.train_weights.verifier=0.5",
)
MIXED = {  # group: of each trajectory the reward, and of each turn the tokens of its calls
    "a": [
        (1.0, [{"planner": 3, "executor": 2, "verifier": 1}]),
        (0.0, [{"planner": 4, "verifier": 2}, {"planner": 1, "executor": 5, "verifier": 1}]),
        (1.0, [{"planner": 2, "executor": 1, "verifier": 1}] * 3),
    ],
    "b": [(1.0, [{"planner": 2, "executor": 6}]), (0.0, [{"planner": 6}]), (FAULT, [])],
    "c": [(0.0, []), (1.0, [{"planner": 1, "executor": 1}]), (0.0, [{"planner": 5}] * 2)],
    "d": [(1.0, [{"planner": 1}]), (FAULT, [{"planner": 2, "executor": 2}]), (FAULT, [])],
}


def tokens(count: int) -> Tokens:
    return Tokens(prompt_ids=(1, 2), response_ids=(5,) * count, logprobs=(-1.0,) * count)


def reply(module: str, count: int) -> ModuleReply:
    kept = None if module == "planner" else tokens(count)  # a planner's are its turn's
    return ModuleReply(
        module=module,
        engine="policy",
        text="",
        prompt_tokens=2,
        response_tokens=count,
        seconds=0.1,
        tokens=kept,
    )


def rows_of(reward: Any, calls: list[dict[str, int]]) -> list[Any]:
    turns = []
    for index, called in enumerate(calls):
        replies = tuple(reply(module, count) for module, count in called.items())
        turns.append(Turn(index=index, tokens=tokens(called["planner"]), replies=replies))
    outcome = Outcome.INFRA_ERROR if reward == FAULT else Outcome.ANSWERED
    trajectory = Trajectory(
        id="t", query="q", turns=tuple(turns), outcome=outcome, error=None, timings={}
    )
    return scored(to_rows(trajectory, 0, 1, TRAINED), reward)


def expected(keys: list[str], trajectory_weight: bool) -> dict[str, tuple[float, float]]:
    """The oracle's advantage and weight of every row. A trajectory that called nothing has a row
    without a token.
    """
    options = oracle.Options(modules=WEIGHTS, trajectory_weight=trajectory_weight)
    order = list(dict.fromkeys(key.split("_")[0] for key in keys))
    world = {}
    for group, trajectories in MIXED.items():
        made = []
        for reward, calls in trajectories:
            replies = []
            for called in calls:
                for module, count in called.items():
                    replies.append(oracle.Turn([], [], [], [1] * count, module))
            if reward == FAULT:
                made.append(oracle.Trajectory(0.0, [], valid=False))
            else:
                made.append(oracle.Trajectory(reward, replies))
        world[group] = oracle.Group(made, order.index(group) // 2)
    found = {}
    for group, members in world.items():
        for session, trajectory in enumerate(members.trajectories):
            advantage = oracle.advantage(members, trajectory, options)
            for index, call in enumerate(trajectory.turns):
                weight = oracle.weight(list(world.values()), members, trajectory, call, options)
                found[f"{group}_{session}_{index}"] = (advantage, weight)
    return found


@pytest.mark.parametrize("ranks, trajectory_weight", [(1, True), (2, True), (1, False)])
def test_calls_of_each_module_are_weighed_as_the_oracle_does(
    ranks: int, trajectory_weight: bool
) -> None:
    keys = put(MIXED, rows_of=rows_of)
    options = (
        *OVERRIDES,
        "agentflow.max_fault_rate=0.9",
        f"agentflow.flow_grpo.trajectory_weight={trajectory_weight}",
    )
    found, metrics, trainer = weigh(keys, *options, ranks=ranks)
    wanted = expected(keys, trajectory_weight)
    assert len(wanted) == 25 and trainer._steps == 2
    assert_weighed(found, wanted)
    assert metrics["agentflow/trained/executor/rows"] == 7
    assert metrics["agentflow/trained/executor/tokens"] == 2 + 5 + 3 * 1 + 6 + 1
    shares = [metrics[f"agentflow/trained/{module}/loss_share"] for module in TRAINED]
    assert sum(shares) == pytest.approx(metrics["agentflow/objective_mass"])
