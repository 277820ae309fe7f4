"""Every job ends scored, or as a reported fault; a fault is tried again and never scored 0."""

from __future__ import annotations

import asyncio
import logging

import pytest

from agentflow_verl.config.limits import Limits
from agentflow_verl.core.errors import InfraError
from agentflow_verl.evaluation import runner
from agentflow_verl.evaluation.leakage import QuestionIndex
from agentflow_verl.evaluation.questions import Question
from agentflow_verl.evaluation.runner import Runner
from agentflow_verl.evaluation.store import Job
from agentflow_verl.trajectories.log import ScoredTrajectory
from agentflow_verl.trajectories.records import Outcome
from tests.flow.fakes import ANSWER, CONTINUE, Hang, ScriptedTools, engines

QUESTIONS = [Question("sums", str(number), "What is 2 + 2?", "4", "gsm8k") for number in range(4)]
JOBS = [Job(question, trial) for trial in range(2) for question in QUESTIONS]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(runner, "PAUSE_S", 0.0)


async def run(
    jobs=JOBS, tools=None, limits=Limits(), guard=(), **options
) -> list[ScoredTrajectory]:
    names = ("concurrency", "attempts", "stop_after")
    chosen = {name: options.pop(name) for name in names if name in options}
    found: list[ScoredTrajectory] = []
    await Runner(
        engines(**options), tools or ScriptedTools(), limits, QuestionIndex(guard), **chosen
    ).run(jobs, found.append)
    return found


async def test_every_job_is_done_once_and_scored_by_its_question():
    found = await run()
    assert sorted((entry.group, entry.session) for entry in found) == sorted(
        (job.question.key, job.trial) for job in JOBS
    )
    assert {entry.reward for entry in found} == {1.0}
    entry = found[0]
    assert (entry.split, entry.data_source, entry.ground_truth, entry.scores["scorer"]) == (
        "val",
        "gsm8k",
        "4",
        "maths",
    )
    assert entry.trajectory.id == f"{entry.group}/{entry.session}"


async def test_no_more_run_at_once_than_allowed():
    now = most = 0

    class Counting(ScriptedTools):
        async def call(self, *arguments):
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.01)
            now -= 1
            return await super().call(*arguments)

    await run(tools=Counting(), concurrency=3)
    assert most == 3


async def test_a_fault_is_tried_again_and_reported():
    found = await run(JOBS[:1], generator=[InfraError("the server is gone"), ANSWER])
    assert [(entry.reward, entry.trajectory.outcome) for entry in found] == [
        (None, Outcome.INFRA_ERROR),
        (1.0, Outcome.ANSWERED),
    ]


async def test_a_fault_that_stays_is_not_a_zero(caplog):
    with caplog.at_level(logging.WARNING):
        found = await run(JOBS[:1], analyst=InfraError("the server is gone"))
    assert [entry.reward for entry in found] == [None] * 3
    assert "sums/0/0, attempt 3 of 3: the server is gone" in caplog.text


async def test_a_scorer_that_fails_is_a_fault(monkeypatch):
    async def broken(*_, **__):
        raise InfraError("the judge does not answer")

    monkeypatch.setattr(runner, "score_with_judge", broken)
    found = await run(JOBS[:1], attempts=1)
    assert (found[0].reward, found[0].trajectory.outcome) == (None, Outcome.INFRA_ERROR)
    assert "the judge does not answer" in found[0].trajectory.error


async def test_a_run_whose_servers_are_down_stops_and_says_why():
    seen: list[ScoredTrajectory] = []
    made = Runner(
        engines(planner=InfraError("connection refused")),
        ScriptedTools(),
        Limits(),
        QuestionIndex(()),
        1,
        attempts=1,
        stop_after=3,
    )
    with pytest.raises(
        InfraError, match="3 trajectories in a row ended in faults, the last: connection refused"
    ):
        await made.run(JOBS, seen.append)
    assert len(seen) == 3


async def test_stopping_leaves_nothing_running():
    tools = ScriptedTools(Hang)
    task = asyncio.ensure_future(run(tools=tools))
    while len(tools.calls) < len(JOBS):
        await asyncio.sleep(0.001)
    for _ in range(10):  # until the calls that have begun hang
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tools.cancelled == len(JOBS)


async def test_running_out_of_time_is_wrong_and_running_out_of_turns_may_be_right():
    late = await run(JOBS[:1], limits=Limits(time_budget_s=0.05), verifier=Hang)
    assert (late[0].reward, late[0].trajectory.outcome) == (0.0, Outcome.OUT_OF_TIME)
    long = await run(JOBS[:1], verifier=CONTINUE)
    assert (long[0].reward, long[0].trajectory.outcome) == (1.0, Outcome.OUT_OF_TURNS)


async def test_leaks_are_noted_with_the_trajectory_that_met_them():
    leaky = Question(
        "facts",
        "0",
        "Which of the many rivers of the old kingdom of Aragon is the longest one?",
        "Ebro",
        "nq",
    )
    found = await run(
        JOBS[:1],
        tools=ScriptedTools(leaky.text),
        guard=[leaky],
        planner="Justification: j\nContext: c\nSub-goal: s\nTool: wikipedia_search",
    )
    assert found[0].scores["leaks"] == {"wikipedia_search": 1} and found[0].scores["leaked"] == [
        "facts/0"
    ]
