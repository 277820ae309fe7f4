"""The loop: analyse once, then plan, execute, verify until STOP or T_max, then answer (paper
algorithm 1).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from typing import Any

from agentflow_verl.config.limits import Limits
from agentflow_verl.core.clock import Clock
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import InfraError, MalformedOutput, OutOfTime, PromptTooLong
from agentflow_verl.core.unicode import well_formed
from agentflow_verl.engines.interface import Engine, Reply
from agentflow_verl.flow.memory import Memory
from agentflow_verl.flow.modules import Caller, tokens_of
from agentflow_verl.flow.parse import complete_plan, parse_arguments, parse_verdict
from agentflow_verl.flow.prompts import Prompts
from agentflow_verl.flow.replies import answer_of
from agentflow_verl.tools.interface import Tools
from agentflow_verl.tools.types import ToolSpec
from agentflow_verl.trajectories.records import (
    Call,
    Mistake,
    ModuleReply,
    Outcome,
    Result,
    Trajectory,
    Turn,
)

logger = logging.getLogger(__name__)


class Flow:
    """Answers questions. Holds no state of any question: each ``run`` builds its own memory."""

    def __init__(
        self,
        engines: Mapping[str, Engine],
        tools: Tools,
        limits: Limits = Limits(),
        prompts: Prompts | None = None,
        trained: Collection[str] = (),
    ):
        """``prompts`` are the shipped ones unless given; ``trained`` modules, whose tokens are
        recorded.
        """
        self.engines = engines
        self.tools = tools
        self.limits = limits
        self.prompts = prompts or Prompts.shipped()
        self.trained = frozenset(trained)

    async def run(self, query: str, trajectory_id: str) -> Trajectory:
        """One trajectory. Never raises for what it can record: every ending is an ``Outcome``."""
        started = time.monotonic()
        planner = self.engines["planner"]
        memory = Memory(
            self.limits.memory_tokens, planner.count, count_in_thread=planner.has_tokenizer
        )
        clock = Clock()
        deadline = Deadline.after(self.limits.time_budget_s, clock)
        caller = Caller(
            self.engines,
            trajectory_id,
            query,
            memory,
            deadline,
            self.prompts,
            began=started,
            trained=self.trained,
        )
        replies: list[ModuleReply] = []
        answer, error = "", None
        try:
            await caller.analyse(self.tools.specs)
            replies += caller.take_replies()
            outcome = await self._turns(caller)
            if outcome is not Outcome.MALFORMED:
                answer = answer_of((await caller.answer()).text)
                replies += caller.take_replies()
            if not answer:
                outcome, error = Outcome.MALFORMED, error or _why_malformed(memory.turns)
        except OutOfTime as late:
            outcome, error = Outcome.OUT_OF_TIME, str(late)
        except InfraError as fault:
            outcome, error = Outcome.INFRA_ERROR, str(fault)
        except Exception as bug:  # ours or an engine's, not the model's
            logger.exception("trajectory %s broke", trajectory_id)
            outcome, error = Outcome.INFRA_ERROR, f"{type(bug).__name__}: {bug}"
        finally:
            self.tools.end(caller.state)
        caller.timings["total"] = time.monotonic() - started
        if clock.paused_s:  # in the total, and in the part that was held up; not in the budget
            caller.timings["paused"] = clock.paused_s
        return Trajectory(
            id=trajectory_id,
            query=query,
            analysis=caller.analysis,
            turns=tuple(memory.turns),
            answer=answer,
            outcome=outcome,
            error=error,
            timings=caller.timings,
            replies=(*replies, *caller.take_replies()),
        )

    async def _turns(self, caller: Caller) -> Outcome:
        for index in range(self.limits.max_turns):
            turn = await self._turn(caller, index)
            if turn.verdict is not None and turn.verdict.stop:
                return Outcome.ANSWERED
        readable = any(turn.plan is not None for turn in caller.memory.turns)
        return Outcome.OUT_OF_TURNS if readable else Outcome.MALFORMED

    async def _turn(self, caller: Caller, index: int) -> Turn:
        """Plan, execute, verify. What was done enters the memory even when a fault or the deadline
        cuts the turn short.
        """
        memory = caller.memory
        parts: dict[str, Any] = {"index": index}
        try:
            left = self.limits.max_turns - index
            plan = await caller.plan(self.tools.specs, left, self.limits.turns_left)
            parts["tokens"] = tokens_of(plan)
            try:
                await self._act(caller, plan.text, parts)
            except MalformedOutput as malformed:
                parts["error"] = str(malformed)
                parts.setdefault("mistake", Mistake.UNUSABLE_CALL)
            if "plan" in parts:
                memory.put(Turn(**parts))  # the verifier judges this turn too
                parts["verdict"] = parse_verdict((await caller.verify()).text)
        finally:
            if "tokens" in parts:
                memory.put(Turn(**parts, replies=caller.take_replies()))
        return memory.turns[-1]

    async def _act(self, caller: Caller, text: str, parts: dict[str, Any]) -> None:
        """Read the plan, have the executor write the call, make it. Fills ``parts``;
        MalformedOutput is an observation.
        """
        names = [spec.name for spec in self.tools.specs]
        parts["mistake"] = Mistake.UNREADABLE_PLAN
        plan = complete_plan(text, caller.query, names)
        parts["plan"] = plan
        tool = self.tools.resolve(plan.tool)
        if tool is None:
            parts |= {"mistake": Mistake.UNKNOWN_TOOL, "known_tools": tuple(names)}
            raise MalformedOutput(
                f"there is no tool {plan.tool!r}; the tools are {', '.join(names)}"
            )
        if plan.tool != tool.name:
            parts["plan"] = plan = plan.model_copy(update={"tool": tool.name})
        del parts["mistake"]
        try:
            command = await caller.execute(tool, plan.context, plan.sub_goal)
        except PromptTooLong as wrong:
            await caller.check_room_for(tool)
            raise MalformedOutput(f"the context and sub-goal are too long: {wrong}") from wrong
        parts["call"] = call = Call(tool=tool.name, arguments=_arguments(command, tool))
        started = time.monotonic()
        try:
            result = await self.tools.call(call.tool, call.arguments, caller.deadline, caller.state)
        finally:
            caller.timings["tools"] = caller.timings.get("tools", 0.0) + time.monotonic() - started
        parts["result"] = Result(
            text=well_formed(result.text),
            is_error=result.is_error,
            truncated=result.truncated,
            seconds=result.seconds,
            started=started - caller.began,
            attempts=result.attempts,
        )


def _arguments(command: Reply, tool: ToolSpec) -> dict[str, Any]:
    """The arguments that the executor wrote. Raises MalformedOutput, which the next plan reads."""
    try:
        return parse_arguments(command.text, tool.parameters)
    except MalformedOutput as wrong:
        if not command.cut:
            raise
        raise MalformedOutput(
            f"the call was cut off at {command.response_tokens} tokens; a shorter one is needed"
        ) from wrong


def _why_malformed(turns: list[Turn]) -> str:
    if turns and all(turn.plan is None for turn in turns):
        return f"no turn had a readable plan; the last: {turns[-1].error}"
    return "the generator gave no answer"
