"""Values written with colons: times of day (``4:15``, ``4:15 p.m.``) and ratios of three or more
members (``1:2:3``). A ratio of two members is the quotient and left to the algebra.
"""

from __future__ import annotations

import re

CLOCK = re.compile(
    r"(?P<hour>[01]?[0-9]|2[0-4]):(?P<minute>[0-5][0-9])(?:[\s~]|\\[,;: ])*"
    r"(?:\\(?:text|mathrm|textrm|mbox)\s?\{\s*)?(?:(?P<half>[ap])\.?\s?m\b\.?)?\s*\}?",
    re.IGNORECASE,
)
MIN_MEMBERS = 3


def compare_times(answer: str, gold: str) -> bool | None:
    """Whether two times of day agree; None where either text is no time.

    Where only one side says a.m. or p.m., the other may count the hours up to 12 or up to 24.
    """
    given, wanted = CLOCK.fullmatch(answer.strip()), CLOCK.fullmatch(gold.strip())
    if not given or not wanted:
        return None
    if given["minute"] != wanted["minute"]:
        return False
    if bool(given["half"]) == bool(wanted["half"]):
        return hour_of_day(given) == hour_of_day(wanted)
    marked, plain = wanted, given
    if given["half"]:
        marked, plain = given, wanted
    return int(plain["hour"]) in (int(marked["hour"]), hour_of_day(marked))


def hour_of_day(time: re.Match[str]) -> int:
    """The hour as written, or counted up to 24 where a.m. or p.m. stands behind it."""
    hour = int(time["hour"])
    if not time["half"] or hour > 12:
        return hour
    if time["half"].lower() == "p":
        return hour % 12 + 12
    return hour % 12


def ratio_members(text: str) -> list[str]:
    """The members of a ratio of three or more; none where ``text`` is anything else."""
    members = []
    depth = start = 0
    for position, sign in enumerate(text):
        depth += (sign in "({[") - (sign in ")}]")
        if sign == ":" and depth == 0:
            members.append(text[start:position].strip())
            start = position + 1
    members.append(text[start:].strip())
    if len(members) < MIN_MEMBERS or not all(members):
        return []
    return members
