"""Equal calls of one process as one: who asks while it is under way waits for its answer, who asks
later gets the answer that was kept.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, TypeVar

from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import InfraError, OutOfTime

T = TypeVar("T")

GRACE_S = 1.0
"""How long one whose time is up still waits to learn how the call that it waited for ended."""


class SingleFlight(Generic[T]):
    """One per kind of call, on one event loop.

    A failure is nobody else's: who waited then calls for itself, since the next call may succeed,
    and its deadline may be another. But where no time was left for that, the failure is why.

    Args:
        capacity: answers that are kept; the one that was not asked for longest goes first.
        held_up: entered while waiting for another's call; what the call itself enters, such as
            pausing the waiting trajectory's clock with its trainer.
        is_hang: whether so many seconds without an answer are the server's fault; without it the
            call itself finds out.
    """

    def __init__(
        self,
        capacity: int,
        held_up: Callable[[Deadline], AbstractContextManager[None]] | None = None,
        is_hang: Callable[[float], bool] | None = None,
    ) -> None:
        self.capacity = capacity
        self._is_hang = is_hang or (lambda waited_s: False)
        self._held_up = held_up or (lambda deadline: nullcontext())
        self._answers: OrderedDict[Hashable, T] = OrderedDict()
        self._under_way: dict[Hashable, asyncio.Future[T]] = {}

    async def ask(
        self, key: Hashable, call: Callable[[], Awaitable[T]], deadline: Deadline
    ) -> tuple[T, bool]:
        """The answer, and whether it is another call's. Raises what ``call`` raises."""
        if key in self._answers:
            self._answers.move_to_end(key)
            return self._answers[key], True
        first = self._under_way.get(key)
        if first is None:
            return await self._lead(key, call), False
        failure: InfraError | None = None
        waited_s = 0.0
        try:
            with self._held_up(deadline):
                return await self._follow(first, deadline), True
        except InfraError as fault:
            failure = fault
        except OutOfTime as late:
            waited_s = late.waited_s
        except _Failed:
            pass
        try:
            return await call(), False
        except OutOfTime as late:
            if late.answered:  # the server works, whatever ended the first call
                raise
            if failure is not None:
                raise failure from None
            if self._is_hang(waited_s):
                raise InfraError(str(late)) from late
            raise

    async def _lead(self, key: Hashable, call: Callable[[], Awaitable[T]]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._under_way[key] = future
        try:
            answer = await call()
        except BaseException as error:
            known = error if isinstance(error, InfraError) else _Failed()
            future.set_exception(known)
            future.exception()  # nobody may be waiting, which is no reason for a warning
            raise
        finally:
            del self._under_way[key]
        self._answers[key] = answer
        if len(self._answers) > self.capacity:
            self._answers.popitem(last=False)
        future.set_result(answer)
        return answer

    async def _follow(self, first: asyncio.Future[T], deadline: Deadline) -> T:
        """Another's answer. Raises its InfraError, ``_Failed``, or OutOfTime."""
        started = deadline.clock.now()
        try:
            # Shielded: the first call goes on when a follower's time is up.
            return await deadline.run(asyncio.shield(first), "an equal call")
        except OutOfTime as late:
            # Deadlines of trajectories that began together pass together: whether the server hung
            # is known a moment later.
            await asyncio.wait({first}, timeout=GRACE_S)
            if first.done() and first.exception() is None:
                raise OutOfTime(str(late), answered=True) from None
            if first.done():
                await first
            late.waited_s = deadline.clock.now() - started
            raise


class _Failed(Exception):
    """The first call ended without an answer, for reasons of its own trajectory."""
