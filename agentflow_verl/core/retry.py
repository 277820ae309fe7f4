"""When a failed request is sent again, and how servers say when to."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

LONGEST_RETRY_AFTER_S = 30.0


@dataclass(frozen=True)
class RetryPolicy:
    """How often a request is sent at most, and the pauses between: they double, half of each is
    drawn, so that calls that failed together do not come back together.
    """

    attempts: int = 3
    first_pause_s: float = 0.5
    longest_pause_s: float = 8.0

    def pause_s(self, attempt: int, retry_after_s: float = 0.0) -> float:
        """Seconds between attempt number ``attempt``, from 1, and the next, never less than the
        server asks for.
        """
        doubled = 2.0 ** min(attempt - 1, 30)  # a float overflows at 1,024
        backoff_s = min(self.longest_pause_s, self.first_pause_s * doubled)
        # On top of what the server asks for, since it may ask the same of all callers.
        return retry_after_s + backoff_s * random.uniform(0.5, 1.5)


def retry_after_s(header: str | None, now: float | None = None) -> float:
    """Seconds that a ``Retry-After`` header asks for, at most 30 (RFC 9110, section 10.2.3: a
    number or a date); 0 where it is missing or unreadable.

    Args:
        now: the present as Unix time, for a date; None reads the clock.
    """
    value = (header or "").strip()
    if value.isascii() and value.isdecimal():
        # Thousands of digits are more than int() takes, and no reason to fail.
        return LONGEST_RETRY_AFTER_S if len(value) > 9 else _bounded(int(value))
    try:
        moment = parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0
    return _bounded(moment - (time.time() if now is None else now))


def _bounded(seconds: float) -> float:
    return min(LONGEST_RETRY_AFTER_S, max(0.0, seconds))
