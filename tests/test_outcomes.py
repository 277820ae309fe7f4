"""The table of docs/outcomes.md: what the model chose is an observation or a scored ending, what
nobody chose is a fault that has no reward. Broken servers are in test_fault_matrix.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentflow_verl.config.limits import Limits
from agentflow_verl.core.errors import InfraError
from agentflow_verl.evaluation.store import Results
from agentflow_verl.evaluation.summary import summarise
from agentflow_verl.flow.loop import Flow
from agentflow_verl.tools.types import ToolResult
from agentflow_verl.trainer.resilience.fault_limit import stop_on_faults
from agentflow_verl.trainer.rollout.row_record import is_valid, read_records
from agentflow_verl.trainer.rollout.rows import to_rows
from agentflow_verl.trajectories.log import ScoredTrajectory
from agentflow_verl.trajectories.records import Outcome, Trajectory
from tests.flow.fakes import CONTINUE, PLAN, Hang, ScriptedEngine, ScriptedTools, engines

LONG = "word " * 2000  # within what is read of a plan


def tool_error(text: str) -> ToolResult:
    return ToolResult(tool="python_coder", text=text, is_error=True)


def flow(tools: ScriptedTools | None = None, limits: Limits = Limits(), **said: Any) -> Flow:
    return Flow(engines(**said), tools or ScriptedTools(), limits)


def limited(module: str, text: str, prompt_limit: int, **said: Any) -> Flow:
    made = flow(**said)
    made.engines[module] = ScriptedEngine("base", text, prompt_limit=prompt_limit)
    return made


CHOSEN: dict[str, tuple[Callable[[], Flow], Outcome]] = {
    "STOP": (flow, Outcome.ANSWERED),
    "no STOP": (lambda: flow(verifier=CONTINUE), Outcome.OUT_OF_TURNS),
    "replies that take the budget": (
        lambda: flow(limits=Limits(time_budget_s=0.1), planner=Hang),
        Outcome.OUT_OF_TIME,
    ),
    "no readable plan": (lambda: flow(planner="I would rather not"), Outcome.MALFORMED),
    "no answer": (lambda: flow(generator=" "), Outcome.MALFORMED),
    "no such tool": (
        lambda: flow(planner=PLAN.replace("python_coder", "oracle"), verifier=CONTINUE),
        Outcome.OUT_OF_TURNS,
    ),
    "a call that is no JSON": (
        lambda: flow(executor="print it", verifier=CONTINUE),
        Outcome.OUT_OF_TURNS,
    ),
    "a plan that is too long": (
        lambda: limited(
            "executor", "{}", 500, planner=PLAN.replace("x = 2", LONG), verifier=CONTINUE
        ),
        Outcome.OUT_OF_TURNS,
    ),
    "an analysis that is too long": (
        lambda: limited("planner", PLAN, 500, analyst=LONG),
        Outcome.ANSWERED,
    ),
    "a program that raises": (
        lambda: flow(ScriptedTools(tool_error("NameError: x"))),
        Outcome.ANSWERED,
    ),
    "a program that hangs": (
        lambda: flow(ScriptedTools(tool_error("stopped after 10 s"))),
        Outcome.ANSWERED,
    ),
}
NOBODYS: dict[str, Callable[[], Flow]] = {
    "a fault of the frozen base": lambda: flow(verifier=InfraError("engine base: gone")),
    "a fault of a tool server": lambda: flow(ScriptedTools(InfraError("tool: gone"))),
    "a question that is too long": lambda: limited("planner", PLAN, 20),
    "a tool that is too long for the executor": lambda: limited("executor", "{}", 20),
}


async def ended(made: Flow) -> Trajectory:
    return await made.run("What is 2 * 2?", "g_0")


def evaluated(trajectory: Trajectory) -> dict[str, Any]:
    """The summary of an evaluation with this trajectory, and one that was answered rightly."""
    right = Trajectory(id="right", query="q", answer="4", outcome=Outcome.ANSWERED)
    scored = [logged(trajectory, 1, 0.0), logged(right, 2, 1.0)]
    results = Results()
    for entry in scored:
        kept = results.scored if entry.trajectory.outcome.valid else results.unscored
        kept[f"own/{entry.session}/1"] = entry
    about = {"questions": ["own/1", "own/2"], "trials": 1, "too_short": 0}
    return summarise({"benchmarks": {"own": about}}, results)["benchmarks"]["own"]


def logged(trajectory: Trajectory, question: int, reward: float) -> ScoredTrajectory:
    return ScoredTrajectory(
        step=0,
        split="val",
        group=f"own/{question}",
        session=question,
        data_source="own",
        ground_truth="4",
        reward=reward if trajectory.outcome.valid else None,
        scores={},
        trajectory=trajectory,
    )


@pytest.mark.parametrize("event", CHOSEN)
async def test_what_the_model_chose_is_counted(event):
    make, outcome = CHOSEN[event]
    trajectory = await ended(make())
    assert trajectory.outcome is outcome, trajectory.error
    records = read_records([row.extra_fields for row in to_rows(trajectory, 0, 1)])
    assert all(map(is_valid, records)), "it is in its group's mean"
    stop_on_faults(records, limit=0.0)
    assert evaluated(trajectory)["accuracy"]["mean"] == 0.5, "a wrong answer of two"


@pytest.mark.parametrize("event", NOBODYS)
async def test_what_nobody_chose_is_left_out(event):
    trajectory = await ended(NOBODYS[event]())
    assert trajectory.outcome is Outcome.INFRA_ERROR, trajectory.error
    rows = to_rows(trajectory, placeholder_id=0, policy_version=1)
    records = read_records([row.extra_fields for row in rows])
    assert not any(map(is_valid, records))
    assert not any(any(row.response_mask) for row in rows), "none of its tokens is trained"
    with pytest.raises(InfraError, match="1 of 1 trajectories"):
        stop_on_faults(records, limit=0.5)
    figures = evaluated(trajectory)
    assert figures["accuracy"]["mean"] == 1.0, "the one that was scored"
    assert figures["missing"] == 1


async def test_an_observation_of_a_plan_that_is_too_long_is_shown_to_the_planner():
    made = limited("executor", "{}", 500, planner=PLAN.replace("x = 2", LONG), verifier=CONTINUE)
    trajectory = await ended(made)
    assert all("too long" in turn.error for turn in trajectory.turns)
    assert len(trajectory.turns) == 3
    executor_replies = [reply for reply in trajectory.all_replies() if reply.module == "executor"]
    assert not executor_replies, "what was asked only to know whether a shorter plan fits"


async def test_memory_keeps_its_budget_whatever_the_planner_writes():
    made = limited(
        "verifier", CONTINUE, 1500, planner=PLAN.replace("double x", LONG), executor="{}"
    )
    assert (await ended(made)).outcome is Outcome.OUT_OF_TURNS
