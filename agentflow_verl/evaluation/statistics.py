"""Intervals and paired tests for accuracies measured on a few hundred questions, each asked several
times.

Questions are the sample; trials of one question are not independent, so they are averaged first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, variance

import numpy as np

Z = NormalDist().inv_cdf(0.975)
RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95% confidence limits."""

    mean: float
    low: float
    high: float


def accuracy(questions: Sequence[float], trajectories: int) -> Interval:
    """The mean of per-question means in [0, 1], with a Wilson interval (Wilson 1927) at the
    effective sample size p(1-p)/SE² (Korn and Graubard 1998), SE that of the mean over questions,
    and the size at most the number of ``trajectories``. Unlike mean ± 2 SE it never leaves [0, 1]
    and says something where every answer is right, or wrong.
    """
    mean = fmean(questions)
    size = _effective_size(questions, trajectories)
    middle = (mean + Z * Z / (2 * size)) / (1 + Z * Z / size)
    half = Z / (1 + Z * Z / size) * math.sqrt(mean * (1 - mean) / size + Z * Z / (4 * size * size))
    # Clipped by the mean as well: rounding may put a limit on its wrong side at 0 and 1.
    return Interval(mean, min(mean, max(0.0, middle - half)), max(mean, min(1.0, middle + half)))


def _effective_size(questions: Sequence[float], trajectories: int) -> float:
    """How many independent right-or-wrong answers would give the observed standard error."""
    count, mean = len(questions), fmean(questions)
    if count < 2:
        return count
    spread = variance(questions)
    if spread == 0:  # all questions alike: the sample says nothing of the spread
        return count
    return min(mean * (1 - mean) * count / spread, trajectories)


def average(parts: Sequence[Interval]) -> Interval:
    """The unweighted mean of independent estimates, its limits recovered from theirs (MOVER, Zou
    and Donner 2008).
    """
    mean = fmean(part.mean for part in parts)
    low = math.sqrt(sum((part.mean - part.low) ** 2 for part in parts)) / len(parts)
    high = math.sqrt(sum((part.high - part.mean) ** 2 for part in parts)) / len(parts)
    return Interval(mean, max(0.0, mean - low), min(1.0, mean + high))


@dataclass(frozen=True)
class Difference:
    """A paired difference: percentile limits of a bootstrap over questions (None of a single
    question, which says nothing of others), two-sided p-value of a sign-flip test.
    """

    mean: float
    low: float | None
    high: float | None
    p: float


def difference(strata: Sequence[Sequence[float]], seed: int = 0) -> Difference:
    """The mean over strata (benchmarks) of each one's mean per-question difference.

    p is the share of random sign flips of the questions' differences whose mean is at least as far
    from 0, the observed one counted among them (Phipson and Smyth 2010). For one trial it is
    McNemar's test without its approximation.
    """
    chance = np.random.default_rng(seed)
    observed = fmean(fmean(stratum) for stratum in strata)
    flipped, drawn = np.zeros(RESAMPLES), np.zeros(RESAMPLES)
    for stratum in strata:
        values = np.asarray(stratum, dtype=float)
        for start in range(0, RESAMPLES, 1000):  # a thousand at a time bounds the memory
            signs = chance.choice((-1.0, 1.0), (1000, len(values)))
            flipped[start : start + 1000] += signs @ values / len(values) / len(strata)
            picks = chance.integers(len(values), size=(1000, len(values)))
            drawn[start : start + 1000] += values[picks].mean(axis=1) / len(strata)
    # The tolerance counts sums that differ from the observed one by rounding alone.
    as_far = int(np.sum(np.abs(flipped) >= abs(observed) - 1e-12))
    p = (1 + as_far) / (1 + RESAMPLES)
    if max(map(len, strata)) < 2:
        return Difference(observed, None, None, p)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Difference(observed, float(low), float(high), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for testing all of them (Holm 1979)."""
    # Step-down: the smallest p times n, the next times n - 1, never below the one before.
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted
