"""How much one server may be asked from this process: calls at once, calls a second.

Both waits end at a deadline and survive cancellation. ``asyncio.wait_for`` is not used for them:
before Python 3.12 it swallows a cancellation that arrives together with the result, and the call of
a trajectory that ended would go on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import OutOfTime


class Slots:
    """A counting semaphore, first come first served."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiters: deque[asyncio.Future[bool]] = deque()

    @asynccontextmanager
    async def one(self, deadline: Deadline, what: str) -> AsyncIterator[None]:
        """Hold a slot. Raises ``OutOfTime`` if none comes free before the deadline."""
        await self._take(deadline, what)
        try:
            yield
        finally:
            self._give()

    async def _take(self, deadline: Deadline, what: str) -> None:
        if self._free > 0:
            self._free -= 1
            return
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            granted = await settled(waiter, deadline.remaining())
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.result():
                self._give()
            raise
        if not granted:
            raise OutOfTime(f"{what}: no free slot before the deadline")

    def _give(self) -> None:
        while self._waiters:
            if settle(self._waiters.popleft(), True):
                return
        self._free += 1


class Pace:
    """At most ``per_s`` calls a second, evenly spaced; ``None`` sets no pace. A call that gives up
    wastes its turn.
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
            raise OutOfTime(f"{what}: the rate limit leaves no call before the deadline")
        self._next = at + self._interval
        if at > now:
            await asyncio.sleep(at - now)


async def settled(waiter: asyncio.Future[bool], seconds: float) -> bool:
    """What the waiter is set to, ``False`` if nobody has set it within ``seconds``."""
    timer = asyncio.get_running_loop().call_later(seconds, settle, waiter, False)
    try:
        return await waiter
    finally:
        timer.cancel()


def settle(waiter: asyncio.Future[bool], value: bool) -> bool:
    """Set the waiter unless it is set or cancelled already; whether it was this call that set it."""
    if waiter.done():
        return False
    waiter.set_result(value)
    return True
