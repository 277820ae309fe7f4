"""The progress bar with live accuracy; where standard error is not a terminal, one line per half
minute.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain

from tqdm import tqdm

from agentflow_verl.trajectories.log import ScoredTrajectory

TERMINAL_INTERVAL_S = 0.2
LOG_INTERVAL_S = 30.0  # each refresh is a line of its own in a log file


class Progress:
    """Counts scored trajectories; ``with Progress(total, before) as progress:
    progress.add(entry)``.
    """

    def __init__(self, total: int, before: Sequence[ScoredTrajectory]):
        self.rewards: dict[str, list[float]] = defaultdict(list)
        self.faults = 0
        terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            initial=len(before),
            unit="trajectory",
            mininterval=TERMINAL_INTERVAL_S if terminal else LOG_INTERVAL_S,
            dynamic_ncols=terminal,
        )
        for entry in before:
            self._count(entry)
        self._bar.set_postfix_str(self.line())

    def add(self, entry: ScoredTrajectory) -> None:
        self._count(entry)
        self._bar.set_postfix_str(self.line(), refresh=False)
        if entry.reward is not None:
            self._bar.update()

    def line(self) -> str:
        """Accuracy so far, faults if there were any, then the accuracy of each benchmark."""
        shown = [_accuracy(name, rewards) for name, rewards in self.rewards.items()]
        if len(self.rewards) > 1:
            shown.insert(0, _accuracy("right", list(chain.from_iterable(self.rewards.values()))))
        if self.faults:
            # Second, so that a narrow terminal does not hide that something is down.
            shown.insert(1, f"{self.faults} faults")
        return ", ".join(shown)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def _count(self, entry: ScoredTrajectory) -> None:
        if entry.reward is None:
            self.faults += 1
        else:
            self.rewards[entry.group.split("/", 1)[0]].append(entry.reward)


def _accuracy(name: str, rewards: Sequence[float]) -> str:
    return f"{name} {sum(rewards) / len(rewards):.1%} of {len(rewards)}"
