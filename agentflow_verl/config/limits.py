"""What bounds one trajectory."""

from __future__ import annotations

from pydantic import Field

from agentflow_verl.config.base import ConfigModel, Count, Seconds


class Limits(ConfigModel):
    """Turns, seconds and prompt tokens of one trajectory."""

    max_turns: Count = 3
    """T_max. The paper trains with 3 and evaluates with 10."""
    time_budget_s: Seconds = 300.0
    """Wall clock of the whole trajectory, in seconds."""
    memory_tokens: int = Field(2048, ge=64, strict=True)
    """What earlier turns may take of a prompt, in tokens."""
    turns_left: bool = False
    """Whether the planner's shipped prompt says how many turns are left. A policy that is trained
    on at most 3 has never seen 10.
    """


class ValidationLimits(ConfigModel):
    """Limits of a validation's trajectories, such as the paper's 10 turns where it trains with 3.
    What is None is as in training.
    """

    max_turns: Count | None = None
    time_budget_s: Seconds | None = None
    memory_tokens: int | None = Field(None, ge=64, strict=True)

    def over(self, training: Limits) -> Limits:
        """``training``'s limits with these in their place."""
        return training.model_copy(update=self.model_dump(exclude_none=True))
