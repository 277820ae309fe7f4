"""One wall-clock budget, handed down: trajectory, module call, tool call, sandbox."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from agentflow_verl.core.errors import OutOfTime

T = TypeVar("T")


@dataclass(frozen=True)
class Deadline:
    """A point on this process's monotonic clock, in seconds. It crosses a wire as ``remaining()``."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    def within(self, seconds: float) -> Deadline:
        """The earlier of this deadline and one ``seconds`` from now."""
        return Deadline(min(self.at, time.monotonic() + seconds))

    async def run(self, work: Awaitable[T], what: str) -> T:
        """Await ``work``; cancel it and raise ``OutOfTime`` naming ``what`` when the deadline
        passes.
        """
        try:
            return await asyncio.wait_for(work, self.remaining())
        except asyncio.TimeoutError:
            if self.remaining() > 0:  # the work's own timeout, not ours
                raise
            raise OutOfTime(f"{what} ran past its deadline") from None
