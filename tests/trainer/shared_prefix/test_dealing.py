"""Groups stay whole on a rank, and ranks get the same number of distinct tokens."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.trainer.batching.dealing import BatchIndex, deal_whole
from tests.trainer.shared_prefix.rows import tensors


def batch(turns: list[list[int]]) -> tuple[BatchIndex, list[torch.Tensor]]:
    """Rows of groups of trajectories of as many turns: each turn's row begins as the one before."""
    keys, rows = [], []
    for group, trajectories in enumerate(turns):
        for trajectory, count in enumerate(trajectories):
            for turn in range(count):
                keys.append(f"g{group}_{trajectory}_{turn}")
                rows.append([1000 + group] * 20 + [trajectory + 1] * (5 * (turn + 1)) + [turn + 50])
    return BatchIndex.of(keys, [{}] * len(keys)), tensors(rows)


def ranks_of(dealt, group_R: list[int]) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for (_, rank), rows in dealt.rows.items():
        for row in rows:
            found.setdefault(group_R[row], set()).add(rank)
    return found


def test_groups_stay_whole_on_a_rank():
    index, rows = batch([[1, 2], [2, 2], [3, 1], [1, 1]])
    dealt = deal_whole([0] * len(rows), index, rows, ranks=2, multiple=1)
    assert all(len(ranks) == 1 for ranks in ranks_of(dealt, index.group_R.tolist()).values())
    assert {rank for _, rank in dealt.rows} == {0, 1}


def test_one_group_on_two_ranks_is_cut_between_trajectories():
    index, rows = batch([[3, 3, 3, 3]])
    dealt = deal_whole([0] * len(rows), index, rows, ranks=2, multiple=1)
    assert ranks_of(dealt, index.group_R.tolist()) == {0: {0, 1}}
    assert all(len(ranks) == 1 for ranks in ranks_of(dealt, index.trajectory_R.tolist()).values())


def test_one_rank_gets_the_rows_of_each_step_in_their_order():
    index, rows = batch([[1, 2], [2]])
    dealt = deal_whole([1, 0, 0, 1, 1], index, rows, ranks=1, multiple=1)
    assert dealt.rows == {(0, 0): [1, 2], (1, 0): [0, 3, 4]}


@given(
    st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=5),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_every_row_is_dealt_once_and_steps_are_as_long_on_every_rank(
    turns, ranks, multiple, groups_per_step
):
    index, rows = batch(turns)
    step_R = [group // groups_per_step for group in index.group_R.tolist()]
    dealt = deal_whole(step_R, index, rows, ranks, multiple)
    order = dealt.order()
    assert sorted(order) == list(range(dealt.size)) and dealt.per_rank % multiple == 0
    for position, row in enumerate(order):
        if row < len(rows):
            assert step_R[row] == position % (dealt.steps * dealt.per_rank) // dealt.per_rank
