"""Which rows of a batch belong together, and in which optimizer step and rank each one goes.

verl keys a row ``{uid}_{session}_{index}``: uid is the group, session the trajectory, index the
turn. Padding rows that verl adds carry ``is_padding`` in their tag.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from verl.trainer.ppo.padding_utils import SYNTHETIC_PADDING_SEQ_LEN
from verl.utils.seqlen_balancing import calculate_workload, get_seqlen_balanced_partitions

from agentflow_verl.trainer.shared_prefix.tree import PrefixTree


def split_key(key: str) -> tuple[str, int, int]:
    """uid, session and turn of a row's key."""
    uid, session, turn = key.rsplit("_", 2)
    return uid, int(session), int(turn)


@dataclass(frozen=True)
class BatchIndex:
    """Who is who in a batch: integer ids, one entry per row (suffix R)."""

    group_R: Tensor
    trajectory_R: Tensor
    padding_R: Tensor

    @classmethod
    def of(cls, keys: Sequence[str], tags: Sequence[dict[str, Any]]) -> BatchIndex:
        """Read verl's keys and tags."""
        groups: dict[str, int] = {}
        trajectories: dict[str, int] = {}
        group_R, trajectory_R = [], []
        for key in keys:
            # From the right, as verl builds a key: nothing is assumed of the uid.
            session, _ = key.rsplit("_", 1)
            group_R.append(groups.setdefault(session.rsplit("_", 1)[0], len(groups)))
            trajectory_R.append(trajectories.setdefault(session, len(trajectories)))
        padding_R = [bool(tag.get("is_padding", False)) for tag in tags]
        return cls(
            torch.tensor(group_R),
            torch.tensor(trajectory_R),
            torch.tensor(padding_R, dtype=torch.bool),
        )


def plan_steps(
    group_R: Sequence[int], groups_per_step: int, shuffle_seed: str | None = None
) -> list[int]:
    """The optimizer step of each row: groups, dealt evenly over ceil(groups / groups_per_step).

    The result depends neither on how many turns a trajectory took nor on how fast it was: groups
    are in order of appearance, which is the data's (replay_buffer.py), or shuffled by
    ``shuffle_seed``.
    """
    groups = list(dict.fromkeys(group_R))
    if shuffle_seed is not None:
        random.Random(shuffle_seed).shuffle(groups)
    # Dealt evenly, so the last step is never a small remainder, whose few groups would weigh more
    # than those of other steps.
    steps = -(-len(groups) // groups_per_step)  # rounded up
    step_of_group = {}
    for position, group in enumerate(groups):
        step_of_group[group] = position * steps // len(groups)
    return [step_of_group[group] for group in group_R]


Shares = dict[tuple[int, int], list[int]]
"""The rows of each step on each rank."""


@dataclass(frozen=True)
class Dealt:
    """Rows of each step on each rank, and how many they are once padding filled the gaps."""

    rows: Shares
    ranks: int
    steps: int
    per_rank: int

    @classmethod
    def of(cls, rows: Shares, ranks: int, multiple: int) -> Dealt:
        """With as many rows on every rank and in every step, divisible by ``multiple``."""
        largest = max(map(len, rows.values()))
        steps = max(step for step, _ in rows) + 1
        return cls(rows, ranks, steps, -(-largest // multiple) * multiple)

    @property
    def size(self) -> int:
        """Rows of the whole batch with its padding."""
        return self.steps * self.ranks * self.per_rank

    def order(self) -> list[int]:
        """Rank by rank, within a rank step by step, as verl splits a batch over ranks and a rank's
        share over mini-batches. Padding rows come after the others in the batch.
        """
        padding = iter(range(sum(map(len, self.rows.values())), self.size))
        order: list[int] = []
        for rank in range(self.ranks):
            for step in range(self.steps):
                rows = self.rows.get((step, rank), [])
                order += [*rows, *islice(padding, self.per_rank - len(rows))]
        return order


def deal(step_R: Sequence[int], length_R: Sequence[int], ranks: int, multiple: int) -> Dealt:
    """Rows to ranks, so that each has about the same work in every step.

    Args:
        length_R: tokens of each row.
        multiple: what the rows of a step on a rank must be divisible by.
    """
    largest = max(Counter(step_R).values())
    per_rank = -(-largest // (ranks * multiple)) * multiple
    rows_of_step: list[list[int]] = [[] for _ in range(max(step_R) + 1)]
    for row, step in enumerate(step_R):
        rows_of_step[step].append(row)
    shares: Shares = {}
    for step, rows in enumerate(rows_of_step):
        padding = ranks * per_rank - len(rows)
        lengths = [length_R[row] for row in rows] + [SYNTHETIC_PADDING_SEQ_LEN] * padding
        # verl's estimate of a row's FLOPs, in which attention is quadratic in its length.
        work = calculate_workload(torch.tensor(lengths)).tolist()
        parts = get_seqlen_balanced_partitions(work, k_partitions=ranks, equal_size=True)
        for rank, part in enumerate(parts):
            shares[step, rank] = [rows[place] for place in part if place < len(rows)]
    return Dealt(shares, ranks, len(rows_of_step), per_rank)


# ---- with shared prefixes: what hangs together goes to one rank ----


def deal_whole(
    step_R: Sequence[int], index: BatchIndex, rows: Sequence[Tensor], ranks: int, multiple: int
) -> Dealt:
    """As ``deal``, but groups stay whole and work is counted in distinct tokens.

    Where that would leave a rank with more work than trajectories dealt one by one, these stay
    whole.

    Args:
        rows: token ids of each row.
    """
    if ranks == 1:  # nothing to balance, and so nothing to count
        only: Shares = defaultdict(list)
        for row, step in enumerate(step_R):
            only[step, 0].append(row)
        return Dealt.of(dict(only), ranks, multiple)
    best, least = None, 0
    for unit_R in (index.group_R.tolist(), index.trajectory_R.tolist()):
        shares = _spread(step_R, unit_R, rows, ranks)
        # Ranks wait for each other in each step.
        slowest: Counter[int] = Counter()
        for (step, _), share in shares.items():
            slowest[step] = max(slowest[step], distinct_tokens(rows, share))
        if best is None or sum(slowest.values()) < least:
            best, least = shares, sum(slowest.values())
    assert best is not None
    return Dealt.of(best, ranks, multiple)


def distinct_tokens(rows: Sequence[Tensor], chosen: Sequence[int]) -> int:
    """Tokens of the tree of some rows."""
    return PrefixTree.of([rows[row] for row in chosen]).size


def _spread(
    step_R: Sequence[int], unit_R: Sequence[int], rows: Sequence[Tensor], ranks: int
) -> Shares:
    """Units in order of their work, each to the rank with the least so far in its step."""
    rows_of_unit: Shares = defaultdict(list)
    for row, unit in enumerate(unit_R):
        rows_of_unit[step_R[row], unit].append(row)
    work = {key: distinct_tokens(rows, members) for key, members in rows_of_unit.items()}
    load: Counter[tuple[int, int]] = Counter()
    shares: Shares = defaultdict(list)
    for key in sorted(work, key=lambda key: -work[key]):
        step, _ = key
        rank = min(range(ranks), key=lambda rank: load[step, rank])
        load[step, rank] += work[key]
        shares[step, rank] += rows_of_unit[key]
    return dict(shares)
