"""How success depends on what was done in a turn: which tool was called, what the verifier said,
what went wrong.

Compared within groups, whose trajectories have the question in common: an easy question makes
every choice look good. It says which turns carry signal, and is no estimate of an effect: what
is done in a turn depends on the turns before it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from agentflow_verl.trajectories.records import Record, Turn

ASPECTS = ("tool", "verdict", "error")
NONE = "none"


class TurnChoices(Record):
    """What was done in a turn, one word for each aspect."""

    tool: str = NONE
    """The tool that was called."""
    verdict: str = NONE
    """stop, continue or unreadable."""
    error: str = NONE
    """A ``Mistake``, tool_error for a result that is one, or other."""


def choices_of(turn: Turn) -> TurnChoices:
    tool = verdict = error = NONE
    if turn.call is not None and turn.result is not None:
        tool = turn.call.tool
    if turn.verdict is not None:
        verdict = "unreadable"
        if turn.verdict.parsed:
            verdict = "stop" if turn.verdict.stop else "continue"
    if turn.mistake is not None:
        error = turn.mistake.value
    elif turn.error is not None:
        error = "other"
    elif turn.result is not None and turn.result.is_error:
        error = "tool_error"
    return TurnChoices(tool=tool, verdict=verdict, error=error)


@dataclass(frozen=True)
class Attempt:
    """A scored trajectory: its group, whether it succeeded, and what it did turn by turn."""

    group: Hashable
    question: Hashable
    """What groups of several steps may have in common."""
    success: bool
    turns: Sequence[TurnChoices]


@dataclass(frozen=True)
class TurnCredit:
    """One choice in one turn, against the trajectories that reached that turn."""

    turn: int
    """From 1."""
    aspect: str
    choice: str
    trajectories: int
    """How many chose it."""
    success: float
    """Their share of successes."""
    groups: int
    """In how many groups it was chosen and something else too."""
    differences: tuple[float, ...]
    """Of each question, the mean over those groups: the share of successes with the choice minus
    that of all the group's trajectories which reached the turn."""

    @property
    def difference(self) -> float | None:
        """The mean over questions; None where no group has both."""
        return fmean(self.differences) if self.differences else None


def turn_credit(attempts: Iterable[Attempt]) -> list[TurnCredit]:
    """By turn and aspect; the most frequent choice first."""
    reached: dict[int, list[tuple[Attempt, TurnChoices]]] = defaultdict(list)
    for attempt in attempts:
        for number, choices in enumerate(attempt.turns, start=1):
            reached[number].append((attempt, choices))
    found: list[TurnCredit] = []
    for number, members in sorted(reached.items()):
        for aspect in ASPECTS:
            found += _of_aspect(number, aspect, members)
    return found


def _of_aspect(
    number: int, aspect: str, members: Sequence[tuple[Attempt, TurnChoices]]
) -> list[TurnCredit]:
    """Every choice of one aspect in one turn."""
    chosen: dict[str, list[bool]] = defaultdict(list)
    by_group: dict[Hashable, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    questions: dict[Hashable, Hashable] = {}
    for attempt, choices in members:
        choice = getattr(choices, aspect)
        chosen[choice].append(attempt.success)
        by_group[attempt.group][choice].append(attempt.success)
        questions[attempt.group] = attempt.question
    # Groups of one question are not independent: averaged first, as an evaluation's trials are.
    differences: dict[str, dict[Hashable, list[float]]] = defaultdict(lambda: defaultdict(list))
    for name, group in by_group.items():
        if len(group) < 2:
            continue
        everyone = fmean([success for successes in group.values() for success in successes])
        for choice, successes in group.items():
            differences[choice][questions[name]].append(fmean(successes) - everyone)
    found = []
    for choice, successes in chosen.items():
        own = differences[choice].values()
        groups = sum(len(of_question) for of_question in own)
        # Sorted, so that the order in which trajectories came in is nowhere to be seen.
        means = tuple(sorted(fmean(sorted(of_question)) for of_question in own))
        success = fmean(successes)
        found.append(TurnCredit(number, aspect, choice, len(successes), success, groups, means))
    return sorted(found, key=lambda credit: (-credit.trajectories, credit.choice))
