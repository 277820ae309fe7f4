"""A trajectory's own time, which stands still while its trainer holds it up."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """A trajectory's own time in seconds: the process's monotonic clock less the pauses.

    Whoever holds a trajectory up for reasons of its own, as a trainer does while it sends new
    weights, pauses the clock. Pauses are named, may overlap, and count once.
    """

    def __init__(self, wall_clock: Callable[[], float] = time.monotonic):
        self._wall_clock = wall_clock
        # By name rather than counted: a trainer that announces one pause twice still ends it once.
        self._reasons: set[str] = set()
        self._paused_at = 0.0
        self._earlier_s = 0.0

    @property
    def paused(self) -> bool:
        return bool(self._reasons)

    @property
    def paused_s(self) -> float:
        """Seconds of all pauses so far, the present one included."""
        if not self._reasons:
            return self._earlier_s
        return self._earlier_s + self._wall_clock() - self._paused_at

    def now(self) -> float:
        if self._reasons:
            return self._paused_at - self._earlier_s
        return self._wall_clock() - self._earlier_s

    def pause(self, reason: str) -> None:
        if not self._reasons:
            self._paused_at = self._wall_clock()
        self._reasons.add(reason)

    def resume(self, reason: str) -> None:
        """End the pause of that name. Harmless where there is none."""
        if self._reasons == {reason}:
            self._earlier_s = self.paused_s
        self._reasons.discard(reason)
