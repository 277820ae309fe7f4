"""Python's garbage collector, set for a process that runs hundreds of trajectories at once.

Every call in flight is objects that live for seconds, so with Python's defaults the collections of
all generations go over everything again and again: at 1,024 trajectories they take a third of the
process's time, with pauses of tenths of a second in which nothing is answered. Compare ``python -m
tests.benchmarks.rollout`` with and without ``--defaults``.
"""

from __future__ import annotations

import gc

# Python 3.12's defaults are 700, 10 and 10.
THRESHOLDS = (50_000, 10, 20)


def settle() -> None:
    """Leave what is loaded by now out of all collections, and collect what is new less often. Call
    it once per process, after its start.
    """
    # Collected first, since what is frozen is never freed.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
