"""The progress bar with live accuracy; where standard error is no terminal, a line every half
minute.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence

from tqdm import tqdm

from agentflow_verl.trajectories.log import ScoredTrajectory


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
            mininterval=0.2 if terminal else 30.0,
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
        """Accuracy so far, faults where there were any, and the accuracy of each benchmark: a
        narrow terminal cuts the end off.
        """
        every = [reward for rewards in self.rewards.values() for reward in rewards]
        parts = [("right", every)] if len(self.rewards) > 1 else []
        parts += list(self.rewards.items())
        shown = [
            f"{name} {sum(rewards) / len(rewards):.1%} of {len(rewards)}" for name, rewards in parts
        ]
        return ", ".join(
            [*shown[:1], *([f"{self.faults} faults"] if self.faults else []), *shown[1:]]
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def _count(self, entry: ScoredTrajectory) -> None:
        if entry.reward is None:
            self.faults += 1
        else:
            self.rewards[entry.group.split("/", 1)[0]].append(entry.reward)
