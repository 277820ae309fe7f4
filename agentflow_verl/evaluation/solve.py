"""One question through the flow, each module's step shown as it happens: ``agentflow solve``, and
the Python API.

    trajectory = await solve("What is 17 * 23?", engines, tools, show=lambda step: …)

``engines`` are by module name, ``tools`` an open ToolBox; both are made by session.py from a
command line's settings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agentflow_verl.config.limits import Limits
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.engines.interface import Engine, Message, Reply
from agentflow_verl.flow.loop import Flow
from agentflow_verl.flow.prompts import Prompts
from agentflow_verl.tools.interface import Tools, ToolsWrapper
from agentflow_verl.tools.session import TrajectoryState
from agentflow_verl.tools.types import ToolResult
from agentflow_verl.trajectories.records import Trajectory


@dataclass(frozen=True)
class Step:
    """What one module said, or one tool returned. ``by`` is the engine that answered, or the tool's
    arguments.
    """

    who: str
    by: str
    text: str


Show = Callable[[Step], None]


async def solve(
    question: str,
    engines: Mapping[str, Engine],
    tools: Tools,
    limits: Limits = Limits(),
    show: Show = lambda step: None,
    prompts: Prompts | None = None,
) -> Trajectory:
    """Return the trajectory of one question; ``show`` is called with each step as it ends."""
    watched = {module: WatchedEngine(module, engine, show) for module, engine in engines.items()}
    agent = Flow(watched, WatchedTools(tools, show), limits, prompts)
    return await agent.run(question, "solve")


class WatchedEngine:
    """An engine whose replies are shown under a module's name."""

    def __init__(self, module: str, engine: Engine, show: Show):
        self.name = engine.name
        self.structured = engine.structured
        self.has_tokenizer = engine.has_tokenizer
        self._module, self._engine, self._show = module, engine, show

    def count(self, text: str) -> int:
        return self._engine.count(text)

    async def reply(
        self,
        messages: list[Message],
        *,
        trajectory: str,
        deadline: Deadline,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        reply = await self._engine.reply(
            messages, trajectory=trajectory, deadline=deadline, schema=schema
        )
        self._show(Step(self._module, self.name, reply.text.strip()))
        return reply


class WatchedTools(ToolsWrapper):
    """Tools whose results are shown."""

    def __init__(self, tools: Tools, show: Show):
        super().__init__(tools)
        self._show = show

    async def call(
        self,
        name: str,
        arguments: dict[str, Any],
        deadline: Deadline,
        state: TrajectoryState | None = None,
    ) -> ToolResult:
        result = await super().call(name, arguments, deadline, state)
        text = result.text.strip()
        if result.is_error:
            text = f"error: {text}"
        self._show(Step(name, json.dumps(arguments, ensure_ascii=False), text))
        return result
