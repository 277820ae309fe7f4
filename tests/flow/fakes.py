"""Engines and tools that follow a script: what the loop is tested with."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from agentflow_verl.config.limits import Limits
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import PromptTooLong
from agentflow_verl.engines.interface import Message, Reply
from agentflow_verl.flow.loop import Flow
from agentflow_verl.flow.modules import MODULES
from agentflow_verl.tools.session import TrajectoryState
from agentflow_verl.tools.types import ToolResult, ToolSpec
from agentflow_verl.trajectories.records import ModuleReply, Tokens, Turn

PLAN = "Justification: because\nContext: x = 2\nSub-goal: double x\nTool: python_coder"
CALL = '{"code": "print(2 * 2)"}'
CONTINUE = "Analysis: not yet\nConclusion: CONTINUE"
STOP = "Analysis: it is there\nConclusion: STOP"
ANSWER = "It follows. <answer>4</answer>"

PYTHON = ToolSpec(
    name="python_coder",
    description="Runs Python.",
    parameters={"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]},
    notes="Print what you need.",
)
SEARCH = ToolSpec(
    name="wikipedia_search", description="Finds pages.", parameters={"type": "object"}
)


def planned(index: int, tokens: Tokens | None) -> Turn:
    """A turn of which only the planner's call is of interest."""
    reply = ModuleReply(
        module="planner",
        engine="policy",
        text="",
        prompt_tokens=0,
        response_tokens=0,
        seconds=0.0,
    )
    return Turn(index=index, tokens=tokens, replies=(reply,))


class Hang:
    """A step of a script that never ends by itself."""


Step = (
    Any  # text, an exception to raise, Hang, or a function of the messages that gives one of these
)


async def play(script: ScriptedEngine | ScriptedTools, step: Step, given: Any) -> Any:
    """What a step comes to, ``given`` the messages or the arguments. Counts the cancellations of
    one that hangs.
    """
    await asyncio.sleep(0)
    if callable(step) and not isinstance(step, type):
        step = step(given)
    if step is Hang:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            script.cancelled += 1
            raise
    if isinstance(step, Exception):
        raise step
    return step


class ScriptedEngine:
    """Gives ``steps`` one by one, the last one for ever. Token ids are code points, so nothing
    hides an encoding.
    """

    def __init__(self, name: str, *steps: Step, prompt_limit: int | None = None):
        self.name = name
        self.steps = list(steps)
        self.prompt_limit = prompt_limit
        self.reply_limit: int | None = None
        self.structured = False
        self.has_tokenizer = False
        self.schemas: list[Mapping[str, Any] | None] = []
        self.seen: list[list[Message]] = []
        self.trajectories: list[str] = []
        self.cancelled = 0

    def count(self, text: str) -> int:
        return len(text.split())

    async def reply(
        self,
        messages: list[Message],
        *,
        trajectory: str,
        deadline: Deadline,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        self.seen.append(messages)
        self.trajectories.append(trajectory)
        self.schemas.append(schema)
        prompt = "\n".join(message["content"] for message in messages)
        if self.prompt_limit is not None and self.count(prompt) > self.prompt_limit:
            raise PromptTooLong(
                f"engine {self.name}: {self.count(prompt)} words, the limit is {self.prompt_limit}"
            )
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        whole = await deadline.run(play(self, step, messages), f"engine {self.name}")
        text = whole[: self.reply_limit]
        ids = tuple(map(ord, text))
        return Reply(
            text=text,
            engine=self.name,
            prompt_ids=tuple(map(ord, prompt)),
            response_ids=ids,
            logprobs=tuple(-0.5 for _ in ids),
            prompt_tokens=len(prompt),
            response_tokens=len(ids),
            cut=text != whole,
            weights_first=3,
            weights_last=4,
        )


class ScriptedTools:
    """A toolbox that gives ``steps``: text, a ToolResult, an exception, or Hang."""

    def __init__(self, *steps: Step, specs: Sequence[ToolSpec] = (PYTHON, SEARCH)):
        self.specs = tuple(specs)
        self.steps = list(steps) or ["4"]
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.cancelled = 0
        self.ended: list[str] = []

    def resolve(self, name: str) -> ToolSpec | None:
        return next(
            (spec for spec in self.specs if spec.name == name.lower().replace(" ", "_")), None
        )

    def end(self, state: TrajectoryState) -> None:
        self.ended.append(state.name)

    async def call(
        self,
        name: str,
        arguments: dict[str, Any],
        deadline: Deadline,
        state: TrajectoryState | None = None,
    ) -> ToolResult:
        self.calls.append((name, arguments))
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        result = await deadline.run(play(self, step, arguments), f"tool {name}")
        return result if isinstance(result, ToolResult) else ToolResult(tool=name, text=result)


def engines(**scripts: Step | Sequence[Step]) -> dict[str, ScriptedEngine]:
    """An engine of its own a module, named after it. A module that is not mentioned does what it
    should.
    """
    usual: dict[str, Step] = {
        "analyst": "Double it.",
        "planner": PLAN,
        "executor": CALL,
        "verifier": STOP,
        "generator": ANSWER,
    }
    made = {}
    for module in MODULES:
        steps = scripts.get(module, usual[module])
        made[module] = ScriptedEngine(
            f"engine of the {module}", *(steps if isinstance(steps, (list, tuple)) else [steps])
        )
    return made


def flow(
    tools: ScriptedTools | None = None, limits: Limits = Limits(), **scripts: Step | Sequence[Step]
) -> Flow:
    return Flow(engines(**scripts), tools or ScriptedTools(), limits)


def field_of(messages: list[Message], label: str) -> str:
    """What follows ``label:`` on its line in the user's part of a prompt."""
    return messages[1]["content"].split(f"{label}: ", 1)[1].split("\n", 1)[0]
