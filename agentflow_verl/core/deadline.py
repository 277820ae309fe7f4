"""One time budget, handed down: trajectory, module call, tool call, sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

from agentflow_verl.core.clock import Clock
from agentflow_verl.core.errors import OutOfTime

T = TypeVar("T")

PAUSE_POLL_S = 0.25
"""How often a wait whose clock stands still looks whether it runs again."""


@dataclass(frozen=True)
class Deadline:
    """A point on a ``Clock``, in seconds. It crosses a wire as ``remaining()``."""

    at: float
    clock: Clock = field(default_factory=Clock, repr=False, compare=False)

    @classmethod
    def after(cls, seconds: float, clock: Clock | None = None) -> Deadline:
        clock = clock or Clock()
        return cls(clock.now() + seconds, clock)

    def remaining(self) -> float:
        """Seconds left, never negative."""
        left = self.at - self.clock.now()
        return left if left > 0.0 else 0.0

    def within(self, seconds: float) -> Deadline:
        """The earlier of this deadline and one ``seconds`` from now."""
        return Deadline(min(self.at, self.clock.now() + seconds), self.clock)

    async def run(self, work: Awaitable[T], what: str) -> T:
        """Await ``work``; cancel it and raise ``OutOfTime`` naming ``what`` when the deadline
        passes. A paused clock keeps it waiting.
        """
        # A task and asyncio.wait, not wait_for: the deadline moves while the clock is paused, and
        # wait_for has one timeout that is fixed when it begins.
        task = asyncio.ensure_future(work)
        try:
            while not task.done() and (self.clock.paused or self.remaining() > 0):
                shortest = PAUSE_POLL_S if self.clock.paused else 0.0
                await asyncio.wait({task}, timeout=max(shortest, self.remaining()))
        finally:  # also when the caller is cancelled: nothing keeps running for it
            if not task.done():
                task.cancel()
                # Waited for, so that what it holds (a slot, a connection) is given back before the
                # caller goes on.
                await asyncio.wait({task})
        if task.cancelled() and self.remaining() == 0:
            raise OutOfTime(f"{what} ran past its deadline")
        return task.result()
