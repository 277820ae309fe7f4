"""Live progress of training: on a terminal one line that is updated, in any other log one line a
step.

verl's trainer is a Ray actor, which never has a terminal of its own. So the launcher notes whether
the driver has one (``note_terminal``), and the bar is Ray's, which the driver draws.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from ray.experimental import tqdm_ray
from tqdm import tqdm

from agentflow_verl.trajectories.records import Outcome

TERMINAL = "AGENTFLOW_TERMINAL"  # read by Ray's processes, which inherit it from the driver


def note_terminal() -> None:
    """Called in the driver, before Ray starts."""
    os.environ[TERMINAL] = str(int(sys.stderr.isatty()))


class Progress:
    """``show`` once a step. ``total`` is the last step's number."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic):
        self.total = total
        self._clock = clock
        self._shown_at: float | None = None
        self._seconds: list[float] = []
        self._bar: Any = None
        if os.environ.get(TERMINAL) == "1":
            self._bar = tqdm_ray.tqdm(total=total, unit="step", flush_interval_s=0.0)

    def show(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Show a step that has ended, with its logged metrics."""
        now = self._clock()
        self._seconds.append(
            float(metrics.get("timing_s/step", 0.0))
            if self._shown_at is None
            else now - self._shown_at
        )
        self._shown_at = now
        line = self.line(step, metrics)
        if self._bar is None:
            tqdm.write(f"agentflow: {line}")  # standard output, past verl's own bar
        else:
            self._bar.update(step - self._bar.n)
            self._bar.set_description(line)

    def line(self, step: int, metrics: Mapping[str, Any]) -> str:
        """Step, success, reward, rates of the outcomes that occurred, time left by the mean of the
        steps so far.
        """
        parts = [f"step {step}/{self.total}"]
        if "agentflow/success" in metrics:
            parts += [
                f"success {metrics['agentflow/success']:.1%}",
                f"reward {metrics['agentflow/reward']:.3f}",
            ]
        rates = {
            outcome.value: metrics.get(f"agentflow/outcome/{outcome.value}", 0.0)
            for outcome in Outcome
        }
        parts += (
            [", ".join(f"{name} {rate:.0%}" for name, rate in rates.items() if rate)]
            if any(rates.values())
            else []
        )
        mean = sum(self._seconds) / max(1, len(self._seconds))
        parts += [f"{mean:.1f} s a step", f"{duration(mean * (self.total - step))} left"]
        return " | ".join(parts)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def duration(seconds: float) -> str:
    """``1:02:03``, or ``2:03`` below an hour."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
