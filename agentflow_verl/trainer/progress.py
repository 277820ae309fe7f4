"""Live progress of training: one line per step, and how long it will still take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from agentflow_verl.trainer.terminal import MARK
from agentflow_verl.trajectories.records import Outcome


class Progress:
    """``show`` once per step. ``total`` is the last step's number."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic):
        self.total = total
        self._clock = clock
        self._shown_at: float | None = None
        self._seconds: list[float] = []

    def show(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Show a step that has ended, with its logged metrics."""
        now = self._clock()
        if self._shown_at is None:
            self._seconds.append(float(metrics.get("timing_s/step", 0.0)))
        else:
            self._seconds.append(now - self._shown_at)
        self._shown_at = now
        print(MARK + self.line(step, metrics), flush=True)  # verl's bar is on standard error

    def line(self, step: int, metrics: Mapping[str, Any]) -> str:
        """Step, success, reward, rates of the outcomes that occurred, the reward of a validation,
        time left by the mean of the steps so far.
        """
        parts = [f"step {step}/{self.total}"]
        if "agentflow/success" in metrics:
            parts.append(f"success {metrics['agentflow/success']:.1%}")
            parts.append(f"reward {metrics['agentflow/reward']:.3f}")
        rates = []
        for outcome in Outcome:
            if rate := metrics.get(f"agentflow/outcome/{outcome.value}"):
                rates.append(f"{outcome.value} {rate:.0%}")
        if rates:
            parts.append(", ".join(rates))
        if (validation := validation_reward(metrics)) is not None:
            parts.append(f"validation reward {validation:.3f}")
        mean = sum(self._seconds) / max(1, len(self._seconds))
        parts += [f"{mean:.1f} s per step", f"{duration(mean * (self.total - step))} left"]
        return " | ".join(parts)


def validation_reward(metrics: Mapping[str, Any]) -> float | None:
    """The mean over data sources of verl's ``val-core/SOURCE/reward/mean@N``; None in a step
    without a validation.
    """
    rewards = []
    for name, value in metrics.items():
        if name.startswith("val-core/") and "/reward/mean@" in name:
            rewards.append(float(value))
    return sum(rewards) / len(rewards) if rewards else None


def duration(seconds: float) -> str:
    """``1:02:03``, or ``2:03`` below an hour."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minute:02d}:{second:02d}"
    return f"{minute}:{second:02d}"
