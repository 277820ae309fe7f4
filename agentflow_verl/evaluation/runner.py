"""Runs trajectories and scores them, many at once. A fault of a server or scorer is retried and
reported, never scored 0.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agentflow_verl.config.limits import Limits
from agentflow_verl.core.errors import InfraError
from agentflow_verl.engines.interface import Engine
from agentflow_verl.evaluation.leakage import GuardedTools, QuestionIndex
from agentflow_verl.evaluation.questions import Question
from agentflow_verl.evaluation.store import SPLIT, Job
from agentflow_verl.flow.loop import Flow
from agentflow_verl.flow.prompts import Prompts
from agentflow_verl.rewards.judge.client import Judge, score_with_judge
from agentflow_verl.tools.interface import Tools
from agentflow_verl.trajectories.log import ScoredTrajectory
from agentflow_verl.trajectories.records import Trajectory

logger = logging.getLogger(__name__)

PAUSE_S = 2.0  # before a job's next attempt, doubled each time


@dataclass(frozen=True)
class Runner:
    """Everything that a trajectory needs, shared by all of them.

    Args:
        attempts: trajectories that are tried for a job before it counts as faulty.
        stop_after: the run stops after this many faulty jobs in a row, since a server is then down.
        judge: scores in addition to the rules; None without a judge.
        prompts: the shipped ones unless given.
    """

    engines: Mapping[str, Engine]
    tools: Tools
    limits: Limits
    guard: QuestionIndex
    concurrency: int = 32
    attempts: int = 3
    stop_after: int = 16
    judge: Judge | None = None
    prompts: Prompts | None = None

    async def run(self, jobs: Iterable[Job], done: Callable[[ScoredTrajectory], None]) -> None:
        """Run all jobs and pass each trajectory to ``done`` as it ends, including those that ended
        in a fault.

        Raises:
            InfraError: ``stop_after`` jobs in a row ended in a fault.
        """
        waiting, faults = deque(jobs), 0

        async def work() -> None:
            nonlocal faults
            while waiting:
                last = await self._job(waiting.popleft(), done)
                if last.reward is not None:
                    faults = 0
                    continue
                faults += 1
                if faults >= self.stop_after:
                    raise InfraError(
                        f"{faults} trajectories in a row ended in faults, the last:"
                        f" {last.trajectory.error}"
                    )

        count = min(self.concurrency, len(waiting))
        workers = [asyncio.ensure_future(work()) for _ in range(count)]
        try:
            await asyncio.gather(*workers)
        finally:
            # One worker has failed, or this task was cancelled: stop the others and wait for them,
            # so that no trajectory runs on against servers that are being closed.
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _job(self, job: Job, done: Callable[[ScoredTrajectory], None]) -> ScoredTrajectory:
        for attempt in range(1, self.attempts + 1):
            scored = await self._attempt(job)
            done(scored)
            if scored.reward is not None:
                break
            logger.warning(
                "%s, attempt %d of %d: %s", job.id, attempt, self.attempts, scored.trajectory.error
            )
            if attempt < self.attempts:
                # With jitter: many jobs fail at once, and should not all return at once.
                await asyncio.sleep(PAUSE_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
        return scored

    async def _attempt(self, job: Job) -> ScoredTrajectory:
        question, tools = job.question, GuardedTools(self.tools, self.guard)
        agent = Flow(self.engines, tools, self.limits, self.prompts)
        trajectory = await agent.run(question.text, job.id)
        reward: float | None = None
        scores: dict[str, Any] = {}
        if trajectory.outcome.valid:
            try:
                reward, scores = await score(self.judge, question, trajectory)
            except Exception as fault:  # the scorer's or the judge's, not the model's
                logger.exception("the scorer failed on %s", job.id)
                trajectory = trajectory.unscored(f"{type(fault).__name__}: {fault}")
        if tools.dropped:
            scores = {**scores, "leaks": dict(tools.dropped), "leaked": sorted(tools.leaked)}
        return ScoredTrajectory(
            step=0,
            split=SPLIT,
            group=question.key,
            session=job.trial,
            data_source=question.data_source,
            ground_truth=question.answer,
            reward=reward,
            scores=scores,
            trajectory=trajectory,
        )


async def score(
    judge: Judge | None, question: Question, trajectory: Trajectory
) -> tuple[float, dict[str, Any]]:
    """Reward and details of a trajectory's answer, by the same scorers and judge as in training."""
    found, details = await score_with_judge(
        judge,
        question.data_source,
        trajectory.answer,
        question.answer,
        question.scorer_extra,
        qa_match="exact",
    )
    return found.value, {**details, "exact": found.exact}
