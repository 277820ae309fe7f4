"""A server with its replicas as this process calls it: limits, balancing, retries.

Every attempt takes a slot, goes to the URL with the fewest calls in flight, and gives the slot back
before any pause, so that a failing call does not hold up the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from agentflow_verl.core.balancer import Replicas
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import InfraError, OutOfTime
from agentflow_verl.core.limits import AnswerTimes, Pace, Slots
from agentflow_verl.core.retry import RetryPolicy
from agentflow_verl.core.server_errors import NoReplica, ServerFault

T = TypeVar("T")

logger = logging.getLogger(__name__)


class ServerPool:
    """The replicas of one server.

    Args:
        urls: where they are.
        concurrency: calls in flight, over all URLs.
        retry: how often a call is sent, and when again.
        calls_per_s: requests per second, retries included. None is no limit.
    """

    def __init__(
        self,
        urls: Sequence[str],
        concurrency: int,
        retry: RetryPolicy,
        calls_per_s: float | None = None,
    ) -> None:
        self.retry = retry
        self._replicas = Replicas(urls)
        self._slots = Slots(concurrency)
        self._pace = Pace(calls_per_s)
        self._times = AnswerTimes()

    async def call(
        self,
        what: str,
        send: Callable[[str], Awaitable[T]],
        deadline: Deadline,
        *,
        repeatable: bool = True,
        session: str | None = None,
        only: str | None = None,
    ) -> tuple[T, int]:
        """The answer of ``send(url)``, and the number of attempts it took.

        Args:
            what: names the call in errors.
            repeatable: whether a call that may have reached the server may be sent again.
            session: calls of one session stay with one URL as long as it answers.
            only: the one URL that can take this call.

        Raises ``InfraError`` where the server fails, and where it does not answer before the
        deadline although it was given longer than it ever took; ``OutOfTime`` where the time was
        used up before.
        """
        failed: set[str] = set()
        failure: InfraError | None = None
        attempts = 0
        while True:
            try:
                async with self._slots.one(deadline, what):
                    await self._pace.turn(deadline, what)
                    with self._replicas.one(failed, session, only) as url:
                        attempts += 1
                        return await self._timed(send, url), attempts
            except OutOfTime as late:
                if failure is not None:
                    raise failure from None
                if self._times.is_hang(late.waited_s):
                    raise InfraError(str(late)) from late
                raise
            except NoReplica as none:
                failure = failure or InfraError(f"{what}: {none}")
                if not await self._replicas.wait(deadline.remaining()):
                    raise failure from None
            except ServerFault as fault:
                failure = fault
                failed.add(url)
                logger.warning("attempt %d of %d: %s", attempts, self.retry.attempts, fault)
                pause_s = self._pause_s(fault, attempts, failed)
                end = self._end(repeatable, fault, attempts, pause_s >= deadline.remaining())
                if end:
                    raise InfraError(f"{fault} (attempt {attempts}, {end})") from fault
                await asyncio.sleep(pause_s)

    async def _timed(self, send: Callable[[str], Awaitable[T]], url: str) -> T:
        started = asyncio.get_running_loop().time()
        try:
            answer = await send(url)
        except OutOfTime as late:
            if self._times.is_hang(late.waited_s):  # held against the URL, too
                raise ServerFault(str(late)) from late
            raise
        self._times.note(asyncio.get_running_loop().time() - started)
        return answer

    def _pause_s(self, fault: ServerFault, attempt: int, failed: set[str]) -> float:
        """Seconds until the next attempt: none if it can go elsewhere."""
        if self._replicas.another(than=failed):
            return 0.0
        return self.retry.pause_s(attempt, fault.retry_after_s)

    def _end(self, repeatable: bool, fault: ServerFault, attempt: int, late: bool) -> str | None:
        """Why there is no further attempt, ``None`` if there is one."""
        if attempt == self.retry.attempts:
            return "giving up"
        if fault.reached and not repeatable:
            return "not repeated: it may have changed something"
        return "no time for another" if late else None
