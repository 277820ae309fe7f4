"""Circuit breaker of one URL (Nygard, "Release It!", 2007).

Three failures in a row open it: the URL gets no calls for a cool-down, then one call per cool-down
as a probe. The first success closes it; each further failure doubles the cool-down.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass

FAILURES_TO_OPEN = 3
COOL_DOWN_S = (1.0, 30.0)

logger = logging.getLogger(__name__)


@dataclass
class CircuitBreaker:
    """Failures of one URL, and when it may be called again. Times are those of the event loop, in
    seconds.
    """

    url: str
    failures: int = 0
    cool_down_s: float = 0.0
    opened_at: float = 0.0
    next_try: float = 0.0
    reason: str = ""

    @property
    def open(self) -> bool:
        return self.cool_down_s > 0

    def allows_call(self, now: float) -> bool:
        """Whether the circuit is closed, or a probe is due."""
        return not self.open or now >= self.next_try

    def begin(self, now: float) -> None:
        """Count a call as the probe of this cool-down, so that no second one follows it."""
        self.next_try = now + self.cool_down_s

    def fail(self, began: float, now: float, reason: str) -> None:
        self.failures += 1
        self.reason = reason
        # A burst of calls that were sent together fails together: counted one by one, they would
        # double the cool-down to its longest at once.
        if self.failures < FAILURES_TO_OPEN or self.open and began < self.opened_at:
            return  # one that was under way when the circuit opened says nothing new
        if not self.open:
            self.opened_at = now
            logger.warning(
                "%s gets no calls for now, %d in a row failed: %s", self.url, self.failures, reason
            )
        shortest, longest = COOL_DOWN_S
        self.cool_down_s = min(longest, max(shortest, 2 * self.cool_down_s))
        # By lot around the cool-down, so that many processes do not all probe at the same moment.
        self.next_try = now + self.cool_down_s * random.uniform(0.75, 1.25)

    def succeed(self) -> None:
        if self.open:
            logger.warning("%s answers again", self.url)
        self.failures, self.cool_down_s = 0, 0.0
