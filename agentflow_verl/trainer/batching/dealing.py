"""Which rows of a batch belong together, and in which optimizer step and rank each one goes.

verl keys a row ``{uid}_{session}_{index}``: uid is the group, session the trajectory, index the
turn. Padding rows that verl adds carry ``is_padding`` in their tag.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor
from verl.utils.seqlen_balancing import calculate_workload, get_seqlen_balanced_partitions


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


def rows_per_rank(step_R: Sequence[int], ranks: int, multiple: int) -> int:
    """Rows of one step on one rank, the same for all: enough for the largest step, and divisible by
    ``multiple``.
    """
    largest = max(Counter(step_R).values())
    return -(-largest // (ranks * multiple)) * multiple


def deal(step_R: Sequence[int], length_R: Tensor, ranks: int, per_rank: int) -> list[int]:
    """The order of rows that gives every rank the same number of rows of every step, and about the
    same work.

    Rank by rank, within a rank step by step, as verl splits a batch over ranks and a rank's share
    over mini-batches.

    Args:
        step_R: step of each row that counts; the rows after them, up to the length of ``length_R``,
            are padding, of which there must be just enough to fill the gaps.
        length_R: tokens of each row.
        per_rank: rows of one step on one rank.
    """
    steps = max(step_R) + 1
    rows_of_step: list[list[int]] = [[] for _ in range(steps)]
    for row, step in enumerate(step_R):
        rows_of_step[step].append(row)
    padding = iter(range(len(step_R), len(length_R)))
    rows_of_rank: list[list[int]] = [[] for _ in range(ranks)]
    for rows in rows_of_step:
        rows.extend(islice(padding, ranks * per_rank - len(rows)))
        # verl's estimate of a row's FLOPs, in which attention is quadratic in its length.
        work = calculate_workload(length_R[rows]).tolist()
        parts = get_seqlen_balanced_partitions(work, k_partitions=ranks, equal_size=True)
        for rank, part in enumerate(parts):
            rows_of_rank[rank].extend(rows[position] for position in part)
    order = list(chain.from_iterable(rows_of_rank))
    assert sorted(order) == list(range(len(length_R)))
    return order
