"""The URLs of one server, a tool's or an engine's: which takes the next call, and which are left
alone because they fail.

Each URL has a circuit breaker (Nygard, "Release It!", 2007). Three failures in a row open it: the
URL gets no calls for a cool-down, then one call a cool-down to try it. The first success closes it;
each failure doubles the cool-down. Without it a dead replica is the one with the fewest calls in
flight and would be offered every call first.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import anyio

from agentflow_verl.core.server_errors import NoReplica, ServerFault

FAILURES_TO_OPEN = 3
COOL_DOWN_S = (1.0, 30.0)
SESSIONS = 10_000  # whose URL is remembered, the latest ones; verl's own balancer remembers as many
# an outage younger than this is waited out: a supervised server needs seconds to come back
OUTAGE_S = 30.0

logger = logging.getLogger(__name__)


@dataclass
class _Replica:
    """One URL. Times are those of the event loop, in seconds."""

    url: str
    in_flight: int = 0
    failures: int = 0
    cool_down_s: float = 0.0
    opened_at: float = 0.0
    next_try: float = 0.0
    reason: str = ""

    @property
    def open(self) -> bool:
        return self.cool_down_s > 0

    def fail(self, began: float, now: float, reason: str) -> None:
        self.failures += 1
        self.reason = reason
        if self.failures < FAILURES_TO_OPEN or self.open and began < self.opened_at:
            return  # one that was under way when the circuit opened says nothing new
        if not self.open:
            self.opened_at = now
            logger.warning(
                "%s gets no calls for now, %d in a row failed: %s", self.url, self.failures, reason
            )
        shortest, longest = COOL_DOWN_S
        self.cool_down_s = min(longest, max(shortest, 2 * self.cool_down_s))
        self.next_try = now + self.cool_down_s * random.uniform(0.75, 1.25)

    def succeed(self) -> None:
        if self.open:
            logger.warning("%s answers again", self.url)
        self.failures, self.cool_down_s = 0, 0.0


class Replicas:
    """Lends a URL a call. A name of a Ray actor is as good as a URL."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._all = [_Replica(url) for url in urls]
        self._answered = asyncio.Event()
        self._homes: OrderedDict[str, str] = OrderedDict()

    def another(self, than: Collection[str]) -> bool:
        """Whether a URL that is not one of ``than`` would take a call now."""
        return any(replica.url not in than for replica in self._willing())

    @contextmanager
    def one(
        self, avoid: Collection[str] = (), session: str | None = None, only: str | None = None
    ) -> Iterator[str]:
        """The URL with the fewest calls in flight; one of ``avoid`` only if there is no other.
        ``only``: none but this.

        The calls of a ``session`` stay with the URL that took the last of them, whose prefix cache
        knows them, as long as it answers. What the body raises is held for or against the URL.
        Raises ``NoReplica`` if every circuit is open.
        """
        willing = [replica for replica in self._willing() if only in (None, replica.url)]
        if not willing:
            last = max(self._all, key=lambda replica: replica.opened_at)
            raise NoReplica(f"no URL answers, the last failure was {last.reason}")
        home = self._homes.get(session) if session else None
        replica = min(
            willing,
            key=lambda replica: (
                replica.url in avoid,
                replica.url != home,
                replica.in_flight,
                random.random(),
            ),
        )
        if session:
            self._homes[session] = replica.url
            self._homes.move_to_end(session)
            if len(self._homes) > SESSIONS:
                self._homes.popitem(last=False)
        began = _now()
        replica.next_try = began + replica.cool_down_s
        replica.in_flight += 1
        try:
            yield replica.url
        except ServerFault as fault:
            if not fault.busy:
                replica.fail(began, _now(), str(fault))
            raise
        else:
            replica.succeed()
            self._wake()
        finally:
            replica.in_flight -= 1

    async def wait(self, seconds: float) -> bool:
        """Wait until a URL may be tried; ``False`` if none may within ``seconds``, or the outage is
        an old one.
        """
        now = _now()
        if now - max(replica.opened_at for replica in self._all) > OUTAGE_S:
            return False
        until_try = min(replica.next_try for replica in self._all) - now
        if until_try >= seconds:
            return False
        with anyio.move_on_after(max(0.0, until_try)):
            await self._answered.wait()
        return True

    def _willing(self) -> list[_Replica]:
        now = _now()
        return [replica for replica in self._all if not replica.open or now >= replica.next_try]

    def _wake(self) -> None:
        self._answered.set()
        self._answered.clear()  # those that wait now have been released


def _now() -> float:
    return asyncio.get_running_loop().time()
