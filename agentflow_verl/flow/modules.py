"""The five module calls. Each renders its template, asks its engine and parses the reply.

The planner's tokens are what ``Turn.tokens`` keeps, those of other trained modules their
``ModuleReply``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import PromptTooLong
from agentflow_verl.engines.interface import Engine, Reply
from agentflow_verl.flow.memory import Memory, shorten
from agentflow_verl.flow.prompts import FIELDS, Prompts, digest_of
from agentflow_verl.flow.replies import ANALYSIS, ANSWER, VERDICT, analysis_of
from agentflow_verl.tools.session import TrajectoryState
from agentflow_verl.tools.types import ToolSpec
from agentflow_verl.trajectories.records import ModuleReply, Tokens

MODULES = tuple(FIELDS)


def catalogue(specs: Sequence[ToolSpec]) -> str:
    """The tools as prompts show them, one line each."""
    return "\n".join(f"- {spec.name}: {describe_tool(spec)}" for spec in specs)


def describe_tool(spec: ToolSpec) -> str:
    """A tool's description and usage notes in one line."""
    return " ".join(f"{spec.description} {spec.notes or ''}".split())


def planner_fields(
    tools: Sequence[ToolSpec], turns_left: int, note: bool = False
) -> dict[str, str]:
    """What the planner's template may show of the tools, and how many turns are left: the number,
    and a note that is empty unless ``note``.
    """
    return {
        "tools": catalogue(tools),
        "tool_names": " or ".join(spec.name for spec in tools),
        "turns_left": str(turns_left),
        "turns_left_note": f" (turns left: {turns_left})" if note else "",
    }


def executor_fields(tool: ToolSpec) -> dict[str, str]:
    """What the executor's template shows of the tool. The shipped one shows no name, which a 0.5B
    model took for its program: a tool without a description has its name there.
    """
    required = tool.parameters.get("required") or list(tool.parameters.get("properties", {}))[:1]
    return {
        "tool": tool.name,
        "description": describe_tool(tool) or tool.name,
        "schema": tool.schema_text,
        "form": json.dumps(dict.fromkeys(required, "...")),
    }


def tokens_of(reply: Reply) -> Tokens:
    """The planner's reply as the row that is trained."""
    return Tokens(
        prompt_ids=reply.prompt_ids,
        response_ids=reply.response_ids,
        logprobs=reply.logprobs,
        weights_first=reply.weights_first,
        weights_last=reply.weights_last,
    )


@dataclass
class Caller:
    """The module calls of one trajectory: same question, same memory, same deadline."""

    engines: Mapping[str, Engine]
    trajectory: str
    query: str
    memory: Memory
    deadline: Deadline
    prompts: Prompts = field(default_factory=Prompts.shipped)
    began: float = field(default_factory=time.monotonic)
    state: TrajectoryState = field(default_factory=TrajectoryState)
    trained: frozenset[str] = frozenset()
    """Modules whose replies are recorded with their tokens; the planner's always are."""
    analysis: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    replies: list[ModuleReply] = field(default_factory=list)  # since the last take_replies()

    async def analyse(self, tools: Sequence[ToolSpec]) -> str:
        reply = await self._ask("analyst", ANALYSIS, tools=catalogue(tools))
        self.analysis = analysis_of(reply.text)
        return self.analysis

    async def plan(self, tools: Sequence[ToolSpec], turns_left: int, note: bool = False) -> Reply:
        return await self._ask("planner", None, **planner_fields(tools, turns_left, note))

    async def execute(self, tool: ToolSpec, context: str, sub_goal: str) -> Reply:
        fields = executor_fields(tool)
        return await self._ask(
            "executor", tool.parameters, context=context, sub_goal=sub_goal, **fields
        )

    async def check_room_for(self, tool: ToolSpec) -> None:
        """Raise PromptTooLong where the tool's own description is too long for the executor.

        The reply is thrown away: no engine says more cheaply what fits.
        """
        await self.execute(tool, "", "")
        self.replies.pop()

    async def verify(self) -> Reply:
        return await self._ask("verifier", VERDICT)

    async def answer(self) -> Reply:
        return await self._ask("generator", ANSWER)

    def take_replies(self) -> tuple[ModuleReply, ...]:
        taken = tuple(self.replies)
        self.replies.clear()
        return taken

    async def _ask(
        self, module: str, answer: Mapping[str, Any] | None = None, **fields: str
    ) -> Reply:
        """Ask ``module``'s engine; where the prompt is over its limit, with less and less of what
        was written before: the memory and the analysis.

        Args:
            answer: JSON schema of the reply, for an engine that can hold to one.
        """
        engine, prompt = self.engines[module], self.prompts[module]
        started = time.monotonic()
        try:
            for share in (1.0, 0.5, 0.25, 0.0) if prompt.shows_memory else (0.0,):
                memory, analysis = "", self.analysis
                if prompt.shows_memory:
                    memory = await self.memory.rendered(int(self.memory.budget * share))
                    analysis = shorten(analysis, ceil(len(analysis) * share))
                messages = prompt.render(
                    query=self.query, analysis=analysis, memory=memory, **fields
                )
                try:
                    reply = await engine.reply(
                        messages,
                        trajectory=self.trajectory,
                        deadline=self.deadline,
                        schema=answer,
                    )
                except PromptTooLong:
                    if share == 0.0:
                        raise
                else:
                    break
        finally:
            seconds = time.monotonic() - started
            self.timings[module] = self.timings.get(module, 0.0) + seconds
        tokens = None
        if module in self.trained and module != "planner":
            tokens = tokens_of(reply)
        self.replies.append(
            ModuleReply(
                module=module,
                engine=reply.engine,
                text=reply.text,
                prompt_tokens=reply.prompt_tokens,
                response_tokens=reply.response_tokens,
                cached_tokens=reply.cached_tokens,
                seconds=seconds,
                started=started - self.began,
                cut=reply.cut,
                shared=reply.shared,
                prompt_digest=digest_of(messages),
                tokens=tokens,
            )
        )
        return reply
