"""The URLs of one server, a tool's or an engine's: which takes the next call, and which are left
alone because they fail.

Each URL has a circuit breaker (circuit_breaker.py). Without it a dead replica is the one with the
fewest calls in flight and would be offered every call first.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import anyio

from agentflow_verl.core.circuit_breaker import CircuitBreaker
from agentflow_verl.core.server_errors import NoReplica, ServerFault

SESSIONS = 10_000  # whose URL is remembered, the latest ones; verl's own balancer remembers as many
# an outage younger than this is waited out: a supervised server needs seconds to come back
OUTAGE_S = 30.0


@dataclass
class _Replica:
    """One URL, with its calls in flight."""

    url: str
    circuit: CircuitBreaker
    in_flight: int = 0


class Replicas:
    """Lends one URL per call. A name of a Ray actor is as good as a URL."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._all = [_Replica(url, CircuitBreaker(url)) for url in urls]
        self._answered = asyncio.Event()
        self._homes: OrderedDict[str, str] = OrderedDict()

    def another(self, than: Collection[str]) -> bool:
        """Whether a URL that is not one of ``than`` would take a call now."""
        return any(replica.url not in than for replica in self._willing(_now()))

    def one(
        self, avoid: Collection[str] = (), session: str | None = None, only: str | None = None
    ) -> _Call:
        """Lend, inside ``with``, the URL with the fewest calls in flight; one of ``avoid`` only if
        there is no other. ``only``: none but this.

        The calls of a ``session`` stay with the URL that took the last of them, whose prefix cache
        knows them, as long as it answers. What the body raises is held for or against the URL.
        Raises ``NoReplica`` if every circuit is open.
        """
        return _Call(self, avoid, session, only)

    def choose(
        self, now: float, avoid: Collection[str], session: str | None, only: str | None
    ) -> _Replica:
        """What ``one`` lends. Raises ``NoReplica``."""
        willing = self._willing(now)
        if only is not None:
            willing = [replica for replica in willing if replica.url == only]
        if not willing:
            last = max(self._all, key=lambda replica: replica.circuit.opened_at)
            raise NoReplica(f"no URL answers, the last failure was {last.circuit.reason}")
        if len(self._all) == 1:
            return willing[0]
        home = self._homes.get(session) if session else None
        # In this order: no URL that failed this call, the session's own, the least busy one, and by
        # lot among equals, so that many processes do not all choose the first.
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
        return replica

    async def wait(self, seconds: float) -> bool:
        """Wait until a URL may be tried; ``False`` if none may within ``seconds``, or the outage is
        an old one.
        """
        # Called where no URL takes a call. An outage that began long ago is not waited out anew by
        # each call.
        now = _now()
        if now - max(replica.circuit.opened_at for replica in self._all) > OUTAGE_S:
            return False
        until_try = min(replica.circuit.next_try for replica in self._all) - now
        if until_try >= seconds:
            return False
        with anyio.move_on_after(max(0.0, until_try)):
            await self._answered.wait()
        return True

    def _willing(self, now: float) -> list[_Replica]:
        return [replica for replica in self._all if replica.circuit.allows_call(now)]

    def wake(self) -> None:
        """Have those that ``wait`` try again: a URL has answered."""
        self._answered.set()
        self._answered.clear()  # those that wait now have been released


class _Call:
    """A URL, lent from entry to exit. A class, since each call of a run is lent one, and a
    generator's context costs several times as much.
    """

    def __init__(
        self,
        replicas: Replicas,
        avoid: Collection[str],
        session: str | None,
        only: str | None,
    ) -> None:
        self._replicas = replicas
        self._wanted = avoid, session, only

    def __enter__(self) -> str:
        self._began = _now()
        self._replica = self._replicas.choose(self._began, *self._wanted)
        self._replica.circuit.begin(self._began)
        self._replica.in_flight += 1
        return self._replica.url

    def __exit__(self, kind: object, raised: BaseException | None, trace: object) -> None:
        circuit = self._replica.circuit
        self._replica.in_flight -= 1
        if raised is None:
            circuit.succeed()
            self._replicas.wake()
        elif isinstance(raised, ServerFault) and not raised.busy:
            circuit.fail(self._began, _now(), str(raised))


def _now() -> float:
    return asyncio.get_running_loop().time()
