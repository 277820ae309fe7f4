"""The evolving memory M: what each finished turn did, in the words the next prompt shows.

One memory belongs to one trajectory. Rendering is append-only while it fits its budget, so that an engine's prefix
cache serves the earlier turns; over budget the oldest results are shortened first, then the oldest turns are reduced
to their sub-goal.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from agentflow_verl.flow.records import Turn

CUT = " […]"


def describe(turn: Turn, result_chars: int | None = None) -> str:
    """One turn as text. ``result_chars`` limits the result; None keeps it whole, 0 drops everything but the sub-goal."""
    lines = [f"Turn {turn.index + 1}"]
    if turn.plan is not None:
        lines += [f"Sub-goal: {turn.plan.sub_goal}", f"Tool: {turn.plan.tool}"]
    if result_chars == 0:
        return "\n".join(lines)
    if turn.call is not None:
        lines.append(f"Arguments: {json.dumps(turn.call.arguments, ensure_ascii=False)}")
    if turn.result is not None:
        label = "Error" if turn.result.is_error else "Result"
        lines.append(f"{label}: {shorten(turn.result.text, result_chars)}")
    if turn.error is not None:
        lines.append(f"Error: {turn.error}")
    if turn.verdict is not None:
        lines.append(f"Verdict: {'STOP' if turn.verdict.stop else 'CONTINUE'}. {turn.verdict.analysis}".rstrip())
    return "\n".join(lines)


def shorten(text: str, limit: int | None) -> str:
    """``text`` cut to ``limit`` characters with a visible mark."""
    return text if limit is None or len(text) <= limit else text[:limit].rstrip() + CUT


class Memory:
    """Turns so far, rendered to at most ``budget`` tokens as ``count`` counts them."""

    def __init__(self, budget: int, count: Callable[[str], int]):
        self.budget = budget
        self.count = count
        self.turns: list[Turn] = []

    def put(self, turn: Turn) -> None:
        """Append ``turn``, or replace the last one where it is the same turn, further on."""
        if self.turns and self.turns[-1].index == turn.index:
            self.turns[-1] = turn
        else:
            self.turns.append(turn)

    def render(self, budget: int | None = None) -> str:
        """All turns, newest last; "None yet." when empty."""
        if not self.turns:
            return "None yet."
        budget = self.budget if budget is None else min(budget, self.budget)
        limits: list[int | None] = [None] * len(self.turns)
        for limit in (600, 150, 0):
            for position in range(len(self.turns)):
                text = self._join(limits)
                if self.count(text) <= budget:
                    return text
                limits[position] = limit
        return self._join(limits)

    def _join(self, limits: list[int | None]) -> str:
        return "\n\n".join(describe(turn, limit) for turn, limit in zip(self.turns, limits))
