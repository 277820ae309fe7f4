"""How much one server may be asked from this process: calls at once, calls per second.

Both waits end at a deadline and survive cancellation. ``asyncio.wait_for`` is not used for them:
before Python 3.12 it swallows a cancellation that arrives together with the result, and the call of
a trajectory that ended would go on.
"""

from __future__ import annotations

import asyncio

import anyio

from agentflow_verl.core.deadline import PAUSE_POLL_S, Deadline
from agentflow_verl.core.errors import OutOfTime


class Slots:
    """At most ``count`` holders at once, first come first served."""

    def __init__(self, count: int) -> None:
        self._limiter = anyio.CapacityLimiter(count)

    def one(self, deadline: Deadline, what: str) -> _Slot:
        """Hold a slot (``async with``), and say how many of the trajectory's seconds it took to
        come. Raises ``OutOfTime`` if none comes free before the deadline.
        """
        return _Slot(self._limiter, deadline, what)


class _Slot:
    """A slot, held from entry to exit. A class, since each call of a run holds one, and a
    generator's context costs five times as much.
    """

    __slots__ = ("_deadline", "_limiter", "_what")

    def __init__(self, limiter: anyio.CapacityLimiter, deadline: Deadline, what: str) -> None:
        self._limiter, self._deadline, self._what = limiter, deadline, what

    async def __aenter__(self) -> float:
        queued_s = 0.0
        # A limiter lends by holder, by default the task; a task may hold several slots.
        try:
            self._limiter.acquire_on_behalf_of_nowait(self)
        except anyio.WouldBlock:
            queued_s = await self._wait()
        if self._deadline.remaining() <= 0:
            self._limiter.release_on_behalf_of(self)
            raise self._out_of_time(queued_s)
        return queued_s

    async def __aexit__(self, *_: object) -> None:
        self._limiter.release_on_behalf_of(self)

    async def _wait(self) -> float:
        """Take a slot as soon as one comes free; the seconds that it took."""
        clock = self._deadline.clock
        started = clock.now()
        while clock.paused or self._deadline.remaining() > 0:
            shortest_s = PAUSE_POLL_S if clock.paused else 0.0
            with anyio.move_on_after(max(shortest_s, self._deadline.remaining())):
                await self._limiter.acquire_on_behalf_of(self)
                return clock.now() - started
        raise self._out_of_time(clock.now() - started)

    def _out_of_time(self, waited_s: float) -> OutOfTime:
        return OutOfTime(f"{self._what}: no free slot before the deadline", waited_s=waited_s)


class Pace:
    """At most ``per_s`` calls per second, evenly spaced; ``None`` sets no pace. A call that gives
    up wastes its turn.
    """

    def __init__(self, per_s: float | None) -> None:
        self._interval = 0.0 if per_s is None else 1 / per_s
        self._next = 0.0

    async def turn(self, deadline: Deadline, what: str) -> None:
        """Wait for a turn. Raises ``OutOfTime`` at once, and takes none, if it would come after the
        deadline.
        """
        if not self._interval:
            return
        now = asyncio.get_running_loop().time()
        at = max(now, self._next)
        if at - now >= deadline.remaining():
            message = f"{what}: the rate limit leaves no call before the deadline"
            raise OutOfTime(message, waited_s=at - now)
        # Taken before the wait, so that the next caller gets the turn after this one.
        self._next = at + self._interval
        if at > now:
            await asyncio.sleep(at - now)


class AnswerTimes:
    """How long a server takes to answer, to tell one that hangs from one that is short of time."""

    FACTOR = 2.0

    def __init__(self) -> None:
        self._slowest_s = 0.0

    def note(self, seconds: float) -> None:
        """It answered after this time."""
        if seconds > self._slowest_s:
            self._slowest_s = seconds

    def is_hang(self, waited_s: float) -> bool:
        """Whether a wait without an answer is the server's fault: longer than twice its slowest
        answer so far. One that has never answered gets no credit.
        """
        return waited_s > self.FACTOR * self._slowest_s
