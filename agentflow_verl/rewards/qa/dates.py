"""Dates in short answers: one day has many wordings ("4 May 1999", "May fourth", "1999-05-04").

The day or the year may be missing; a date that may be read in two ways ("4/5/1999") is none.
"""

from __future__ import annotations

import re

from agentflow_verl.rewards.qa.normalize import ORDINALS, fold, numbered

MONTHS = numbered(
    "january february march april may june july august september october november december",
    first=1,
)
MONTHS |= {name[:3]: number for name, number in MONTHS.items()} | {"sept": 9}
WEEKDAYS = frozenset(
    "monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thur thurs fri"
    " sat sun".split()
)
Date = tuple[int | None, int, int | None]
"""Year, month and day; None where the text leaves it out."""
DATE_FILLERS = WEEKDAYS | {"of", "the", "on", "in", "st", "nd", "rd", "th"}
MAX_DATE_CHARS = 48


def dates_in(text: str) -> frozenset[Date]:
    """The dates that the *whole* text may mean; empty when it is no date or an
    ambiguous one ("4/5/1999").
    """
    if len(text) > MAX_DATE_CHARS:
        return frozenset()
    text = fold(text).strip(" .,;")
    numeric = re.fullmatch(r"(\d{1,4})([-/.])(\d{1,2})\2(\d{1,4})", text)
    if numeric:
        first, middle, last = numeric.group(1), int(numeric.group(3)), numeric.group(4)
        if len(first) == 4 and len(last) <= 2:
            return valid_dates((int(first), middle, int(last)))
        if len(first) <= 2 and len(last) == 4:
            # 4/5/1999 is a day in April or in May: it states neither
            months = {int(first), middle}
            both = len(months) == 2 and max(months) <= 12
            readings = (int(last), int(first), middle), (int(last), middle, int(first))
            if both:
                return frozenset()
            return valid_dates(*readings)
        return frozenset()
    if not re.fullmatch(r"[a-z0-9\s,./-]+", text):
        return frozenset()
    parts = []
    for part in re.findall(r"[a-z]+|\d+", text):
        if part not in DATE_FILLERS:
            parts.append(str(ORDINALS.get(part, part)))
    if not 2 <= len(parts) <= 3 or sum(part in MONTHS for part in parts) != 1:
        return frozenset()
    if len(parts) == 3 and parts[2] in MONTHS:
        return frozenset()
    year, month, day = None, 0, None
    for part in parts:
        if part in MONTHS:
            month = MONTHS[part]
        elif not part.isdecimal() or len(part) > 4:
            return frozenset()
        elif len(part) >= 3 and year is None:
            year = int(part)
        elif len(part) < 3 and day is None:
            day = int(part)
        else:
            return frozenset()  # two years, or two days
    return valid_dates((year, month, day))


def valid_dates(*dates: Date) -> frozenset[Date]:
    return frozenset(filter(is_valid_date, dates))


def is_valid_date(date: Date) -> bool:
    _, month, day = date
    return 1 <= month <= 12 and (day is None or 1 <= day <= 31)
