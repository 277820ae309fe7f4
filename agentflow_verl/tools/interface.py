"""What the flow asks of tools, and the base of everything that stands between the two."""

from __future__ import annotations

from typing import Any, Protocol

from agentflow_verl.core.deadline import Deadline
from agentflow_verl.tools.session import TrajectoryState
from agentflow_verl.tools.types import ToolResult, ToolSpec


class Tools(Protocol):
    """The tools of a trajectory; ``ToolBox`` is the one that speaks to servers."""

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The tools, in the order in which prompts list them."""

    def resolve(self, name: str) -> ToolSpec | None:
        """The tool that a model's text names; None if there is none."""

    async def call(
        self,
        name: str,
        arguments: dict[str, Any],
        deadline: Deadline,
        state: TrajectoryState | None = None,
    ) -> ToolResult:
        """Call the tool of this exact name. Raises MalformedOutput, InfraError or OutOfTime."""

    def end(self, state: TrajectoryState) -> None:
        """The trajectory is over: drop what is kept for it. Returns at once."""


class ToolsWrapper:
    """Tools that pass everything on; a subclass overrides ``call``."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        return self._tools.specs

    def resolve(self, name: str) -> ToolSpec | None:
        return self._tools.resolve(name)

    async def call(
        self,
        name: str,
        arguments: dict[str, Any],
        deadline: Deadline,
        state: TrajectoryState | None = None,
    ) -> ToolResult:
        return await self._tools.call(name, arguments, deadline, state)

    def end(self, state: TrajectoryState) -> None:
        self._tools.end(state)
