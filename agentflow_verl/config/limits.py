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
