"""The evolving memory M: what each finished turn did, in the words the next prompt shows.

One memory belongs to one trajectory. Rendering is append-only while it fits its budget, so that an
engine's prefix cache serves the earlier turns; over budget the oldest results are shortened first,
then the oldest turns are reduced to their sub-goal, and that is shortened too. A turn's text is
made and counted once. A tokenizer counts on another thread, since it would hold up the event loop;
an estimate does not, since changing threads costs more.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from agentflow_verl.trajectories.records import Mistake, Turn

CUT = " […]"
SEPARATOR = "\n\n"
NOTHING = "None yet."
_JSON = json.JSONEncoder(ensure_ascii=False)
# (result_chars, plan_chars), step by step; the last bounds a turn whatever the planner wrote
SHORTER = ((600, None), (150, None), (0, None), (0, 200), (0, 40))


def describe(turn: Turn, result_chars: int | None = None, plan_chars: int | None = None) -> str:
    """One turn as text.

    Args:
        result_chars: limit of the result; None keeps it whole, 0 drops all but the plan's lines.
        plan_chars: limit of the sub-goal and of the tool's name, each.
    """
    lines = [f"Turn {turn.index + 1}"]
    if turn.plan is not None:
        lines.append(f"Sub-goal: {shorten(turn.plan.sub_goal, plan_chars)}")
        lines.append(f"Tool: {shorten(turn.plan.tool, plan_chars)}")
    if result_chars == 0:
        return "\n".join(lines)
    if turn.call is not None:
        lines.append(f"Arguments: {_JSON.encode(turn.call.arguments)}")
    if turn.result is not None:
        label = "Error" if turn.result.is_error else "Result"
        lines.append(f"{label}: {shorten(turn.result.text, result_chars)}")
    if turn.error is not None:
        lines.append(_what_was_wrong(turn, turn.error))
    if turn.verdict is not None:
        decision = "STOP" if turn.verdict.stop else "CONTINUE"
        lines.append(f"Verdict: {decision}. {turn.verdict.analysis}".rstrip())
    return "\n".join(lines)


def _what_was_wrong(turn: Turn, error: str) -> str:
    """A mistake in words that a model does not take for the format of a plan."""
    if turn.mistake is Mistake.UNREADABLE_PLAN:
        return "Nothing was done: the plan could not be read."
    if turn.mistake is Mistake.UNKNOWN_TOOL:
        return f"Nothing was done: only {' and '.join(turn.known_tools)} can be used."
    if turn.mistake is Mistake.UNUSABLE_CALL:
        return f"Nothing was done: {error}"
    return f"Error: {error}"


def shorten(text: str, limit: int | None) -> str:
    """``text`` cut to ``limit`` characters with a visible mark."""
    return text if limit is None or len(text) <= limit else text[:limit].rstrip() + CUT


class Memory:
    """Turns so far, rendered to at most ``budget`` tokens, counted turn by turn with ``count``."""

    def __init__(self, budget: int, count: Callable[[str], int], count_in_thread: bool = False):
        self.budget = budget
        self.count = count
        self.count_in_thread = count_in_thread
        self.turns: list[Turn] = []
        self._texts: list[str] = []  # of ``turns``, whole
        self._sizes: dict[str, int] = {}  # tokens by text

    def put(self, turn: Turn) -> None:
        """Append ``turn``, or replace the last one where it is the same turn, further on."""
        if self.turns and self.turns[-1].index == turn.index:
            self.turns.pop()
            self._texts.pop()
        self.turns.append(turn)
        self._texts.append(describe(turn))

    async def rendered(self, budget: int) -> str:
        """As ``render``, off the event loop where counting would hold it up."""
        if not self.count_in_thread or _surely_fits(self._whole(), min(budget, self.budget)):
            return self.render(budget)
        return await asyncio.to_thread(self.render, budget)

    def render(self, budget: int | None = None) -> str:
        """All turns, newest last; "None yet." when empty."""
        budget = self.budget if budget is None else min(budget, self.budget)
        text = self._whole()
        if not self.turns or _surely_fits(text, budget):
            return text
        texts = list(self._texts)
        total = sum(map(self._size, texts))
        for result_chars, plan_chars in SHORTER:
            for position, turn in enumerate(self.turns):
                if total <= budget:
                    break
                shorter = describe(turn, result_chars, plan_chars)
                total += self._size(shorter) - self._size(texts[position])
                texts[position] = shorter
        return SEPARATOR.join(texts)

    def _whole(self) -> str:
        return SEPARATOR.join(self._texts) or NOTHING

    def _size(self, text: str) -> int:
        if text not in self._sizes:
            self._sizes[text] = self.count(text + SEPARATOR)
        return self._sizes[text]


def _surely_fits(text: str, budget: int) -> bool:
    """Whether it fits without counting: a token is at least a byte."""
    return len(text.encode()) < budget
