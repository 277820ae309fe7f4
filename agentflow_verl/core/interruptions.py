"""Calls that a trainer holds up, and the clocks that stand still meanwhile.

An asynchronous trainer aborts what its rollout servers generate, updates the weights and lets the
servers go on. A request that arrives meanwhile is parked in its server; an aborted one is sent
again by the client, with what it had generated. Neither wait is the trajectory's doing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from agentflow_verl.core.clock import Clock

SUSPENDED = "the trainer suspended generation"
ABORTED = "the request was aborted, and waits to be sent again"

# By task: a client deep in verl learns of an abort and does not know whose call it serves.
_waiting: ContextVar[Clock | None] = ContextVar("clock_of_the_call", default=None)


class Interruptions:
    """Of one group of servers, as one process sees them. ``suspend`` and ``resume`` are the
    trainer's, ``waiting`` a caller's.
    """

    def __init__(self) -> None:
        self._suspended = False
        self._clocks: list[Clock] = []

    def suspend(self) -> None:
        """From now on the servers answer nobody."""
        self._suspended = True
        for clock in self._clocks:
            clock.pause(SUSPENDED)

    def resume(self) -> None:
        self._suspended = False
        for clock in self._clocks:
            clock.resume(SUSPENDED)

    @contextmanager
    def waiting(self, clock: Clock) -> Iterator[None]:
        """A call to these servers. ``clock`` stands still while the trainer holds it up."""
        self._clocks.append(clock)
        if self._suspended:
            clock.pause(SUSPENDED)
        before = _waiting.set(clock)
        try:
            yield
        finally:
            _waiting.reset(before)
            self._clocks.remove(clock)
            clock.resume(SUSPENDED)
            clock.resume(ABORTED)


def aborted() -> None:
    """The call of this task was aborted by its server and is about to be sent again."""
    if clock := _waiting.get():
        clock.pause(ABORTED)


def sent_again() -> None:
    """The call of this task is on its way, for the first time or once more."""
    if clock := _waiting.get():
        clock.resume(ABORTED)
