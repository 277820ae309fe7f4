"""A server with its replicas as this process calls it: limits, balancing, retries.

Every attempt takes a slot, goes to the URL with the fewest calls in flight, and gives the slot back
before any pause, so that a failing call does not hold up the others. Tenacity runs the attempts;
when to send again, and when no longer, depends on the fault, the replicas and the deadline.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

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

    def is_hang(self, waited_s: float) -> bool:
        """Whether the server, which did not answer for so long, is at fault."""
        return self._times.is_hang(waited_s)

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
        if deadline.remaining() <= 0:
            raise OutOfTime(f"{what}: called after the deadline")
        state = _CallState(what, deadline, repeatable, session, only)
        try:
            return await self._attempts(send, state), state.attempts
        except OutOfTime as late:
            # An earlier attempt's fault is why there is no answer, unless there was one.
            if state.failure is not None and not late.answered:
                raise state.failure from None
            if self._times.is_hang(late.waited_s):
                raise InfraError(str(late)) from late
            raise
        except NoReplica as none:
            raise state.failure or none from None

    async def _attempts(self, send: Callable[[str], Awaitable[T]], state: _CallState) -> T:
        """The first answer of as many attempts as the policy and the deadline allow."""
        try:
            return await self._attempt(send, state)
        except ServerFault as fault:
            first: ServerFault | None = fault

        async def again() -> T:
            """The first attempt's fault, then further attempts: nearly every call needs one, which
            costs half as much without tenacity.
            """
            nonlocal first
            if first is not None:
                known, first = first, None
                raise known
            return await self._attempt(send, state)

        def stop(attempt: RetryCallState) -> bool:
            state.end = self._end(state, attempt)
            return state.end is not None

        # Made for each call: when to stop depends on this call's deadline and on the URLs that
        # failed it.
        retrying = AsyncRetrying(
            sleep=asyncio.sleep,
            retry=retry_if_exception_type(ServerFault),
            after=self._log_fault,
            # Tenacity works out the pause before it asks whether to stop.
            wait=lambda attempt: self._pause_s(state, attempt),
            stop=stop,
            retry_error_callback=state.give_up,
        )
        answer: T = await retrying(again)
        return answer

    async def _attempt(self, send: Callable[[str], Awaitable[T]], state: _CallState) -> T:
        """Send the call once, as soon as a slot is free and a URL takes calls."""
        while True:
            try:
                async with self._slots.one(state.deadline, state.what) as queued_s:
                    # Inside the slot: calls that wait for their turn here would otherwise all be
                    # sent at the moment in which a slot comes free.
                    await self._pace.turn(state.deadline, state.what)
                    with self._replicas.one(state.failed, state.session, state.only) as url:
                        state.attempts += 1
                        return await self._timed(send, url, queued_s)
            except NoReplica as none:
                # Nothing was sent, so waiting for a replica does not count as an attempt.
                state.failure = state.failure or InfraError(f"{state.what}: {none}")
                if not await self._replicas.wait(state.deadline.remaining()):
                    raise
            except ServerFault as fault:
                state.failure = fault
                state.failed.add(url)
                raise

    async def _timed(self, send: Callable[[str], Awaitable[T]], url: str, queued_s: float) -> T:
        """Send, and tell a server that hangs from a call that had ``queued_s`` for a slot."""
        started = asyncio.get_running_loop().time()
        try:
            answer = await send(url)
        except OutOfTime as late:
            if late.answered:  # what the model chose took the time
                self._times.note(asyncio.get_running_loop().time() - started)
                raise
            # A trajectory that came here with a second left says nothing about the server; one that
            # waited longer than any answer ever took does.
            if self._times.is_hang(late.waited_s):  # held against the URL, too
                raise ServerFault(str(late)) from late
            # A slot that came shortly before the deadline left no time to wait: whose fault the
            # call's end is depends on both waits.
            if late.waited_s:
                late.waited_s += queued_s
            raise
        self._times.note(asyncio.get_running_loop().time() - started)
        return answer

    def _log_fault(self, attempt: RetryCallState) -> None:
        logger.warning(
            "attempt %d of %d: %s", attempt.attempt_number, self.retry.attempts, _fault(attempt)
        )

    def _pause_s(self, state: _CallState, attempt: RetryCallState) -> float:
        """Seconds until the next attempt: none if another replica can take it."""
        # A pause gives the server that failed time to recover, and another one needs none.
        if self._replicas.another(than=state.failed):
            return 0.0
        return self.retry.pause_s(attempt.attempt_number, _fault(attempt).retry_after_s)

    def _end(self, state: _CallState, attempt: RetryCallState) -> str | None:
        """Why there is no further attempt, ``None`` if there is one."""
        if attempt.attempt_number == self.retry.attempts:
            return "giving up"
        if _fault(attempt).reached and not state.repeatable:
            return "not repeated: it may have changed something"
        if attempt.upcoming_sleep >= state.deadline.remaining():
            return "no time for another"
        return None


@dataclass
class _CallState:
    """One call, and what has become of it so far: the URLs that failed it, the latest failure, and
    why there is no further attempt.
    """

    what: str
    deadline: Deadline
    repeatable: bool
    session: str | None
    only: str | None
    attempts: int = 0
    failed: set[str] = field(default_factory=set)
    failure: InfraError | None = None
    end: str | None = None

    def give_up(self, attempt: RetryCallState) -> NoReturn:
        fault = _fault(attempt)
        raise InfraError(f"{fault} (attempt {attempt.attempt_number}, {self.end})") from fault


def _fault(attempt: RetryCallState) -> ServerFault:
    """What failed an attempt; only a ``ServerFault`` is retried."""
    outcome = attempt.outcome
    fault = outcome.exception() if outcome else None
    assert isinstance(fault, ServerFault)
    return fault
