"""Rows as a tree: each distinct token once, where its row says, and whole groups in a part."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.trainer.shared_prefix.tree import (
    Predictions,
    PrefixTree,
    split_by_size,
    split_further,
)
from tests.trainer.shared_prefix.rows import beginnings, branching_rows, tensors


@given(branching_rows())
def test_each_distinct_token_stands_once_and_rows_are_read_back(rows):
    tree = PrefixTree.of(tensors(rows))
    assert tree.size == len(beginnings(rows))
    slots = tree.slot_T.split(tree.length_R.tolist())
    for row, slot in zip(rows, slots):
        assert tree.token_N[slot].tolist() == row
        assert tree.position_N[slot].tolist() == list(range(len(row)))


@given(branching_rows())
def test_rows_share_a_slot_exactly_where_they_have_begun_alike(rows):
    tree = PrefixTree.of(tensors(rows))
    slots = [slot.tolist() for slot in tree.slot_T.split(tree.length_R.tolist())]
    for one, slots_of_one in zip(rows, slots):
        for other, slots_of_other in zip(rows, slots):
            for place in range(min(len(one), len(other))):
                alike = one[: place + 1] == other[: place + 1]
                assert (slots_of_one[place] == slots_of_other[place]) == alike


def nodes_above(tree: PrefixTree, number: int) -> list[int]:
    above = []
    while (number := tree.nodes[number].parent) >= 0:
        above.append(number)
    return above


@given(branching_rows())
def test_nodes_are_runs_of_slots_and_subtrees_are_contiguous(rows):
    tree = PrefixTree.of(tensors(rows))
    place = 0
    for number, node in enumerate(tree.nodes):
        assert node.start == place and node.length > 0
        place += node.length
        path = nodes_above(tree, number)
        assert node.depth == sum(tree.nodes[above].length for above in path)
        assert all(tree.nodes[above].end >= node.end for above in path)
        below = [other for other in tree.nodes if node.start <= other.start < node.end]
        assert node.end == max(other.start + other.length for other in below)
    assert place == tree.size


def test_the_tree_does_not_depend_on_the_order_of_rows():
    rows = tensors([[1, 2, 3], [1, 2], [4], [1, 2, 5, 6], [1, 2, 5, 7]])
    trees = [PrefixTree.of(rows), PrefixTree.of(rows[::-1])]
    assert trees[0].token_N.tolist() == trees[1].token_N.tolist() == [1, 2, 3, 5, 6, 7, 4]
    assert trees[0].nodes == trees[1].nodes
    assert trees[0].order_R.tolist() == [1, 0, 3, 4, 2]


def test_a_row_that_begins_another_adds_nothing_and_needs_no_branch():
    tree = PrefixTree.of(tensors([[1, 2, 3, 4], [1, 2], [1, 2, 3, 4]]))
    assert tree.size == 4 and len(tree.nodes) == 1


def test_one_row_is_one_node():
    tree = PrefixTree.of(tensors([[7]]))
    assert (tree.size, len(tree.nodes), tree.slot_T.tolist()) == (1, 1, [0])


# ---- what reaches the head ----


@given(branching_rows(), st.data())
def test_predictions_are_of_response_tokens_from_the_token_before(rows, data):
    rows = [row for row in rows if len(row) > 1] or [[1, 2]]
    prompts = [data.draw(st.integers(1, len(row) - 1)) for row in rows]
    tree = PrefixTree.of(tensors(rows))
    wanted = Predictions.of(tree, torch.tensor(prompts))
    labels, before, places = [], [], []
    start = 0
    for row, prompt in zip(rows, prompts):
        for place in range(prompt, len(row)):
            labels.append(row[place])
            before.append(int(tree.slot_T[start + place - 1]))
            places.append(start + place - 1)
        start += len(row)
    assert wanted.label_A.tolist() == labels
    assert wanted.place_A.tolist() == places
    assert wanted.slot_P[wanted.position_A].tolist() == before
    assert len(set(wanted.slot_P.tolist())) == len(wanted.slot_P)


def test_a_branch_predicts_the_first_token_of_each_branch():
    """The last token before a branch has several next tokens (verl #6689's review)."""
    tree = PrefixTree.of(tensors([[1, 2, 3], [1, 2, 4], [1, 2, 4]]))
    wanted = Predictions.of(tree, torch.tensor([2, 2, 2]))
    assert wanted.slot_P.tolist() == [1]
    assert wanted.label_A.tolist() == [3, 4, 4] and wanted.position_A.tolist() == [0, 0, 0]


def test_a_leaf_predicts_nothing():
    """One log-probability too many at a leaf (AReaL #1308)."""
    tree = PrefixTree.of(tensors([[1, 2, 3]]))
    assert Predictions.of(tree, torch.tensor([1])).slot_P.tolist() == [0, 1]


# ---- micro-batches ----


@given(branching_rows(), st.integers(0, 20))
def test_parts_hold_each_row_once_and_no_more_than_the_limit(rows, spare):
    limit = max(map(len, rows)) + spare
    parts = split_by_size(tensors(rows), limit)
    assert sorted(row for part in parts for row in part) == list(range(len(rows)))
    for part in parts:
        assert len(beginnings([rows[row] for row in part])) <= limit


def test_groups_stay_whole_while_they_fit():
    first = [[1, 2, 3, turn, 9, trajectory] for turn in (1, 2) for trajectory in (1, 2)]
    second = [[1, 2, 4, turn, 9, trajectory] for turn in (1, 2) for trajectory in (1, 2)]
    mixed = [row for pair in zip(first, second) for row in pair]
    parts = split_by_size(tensors(mixed), 12)
    groups = [{mixed[row][2] for row in part} for part in parts]
    assert groups == [{3}, {4}]


def test_a_larger_group_is_cut_where_trajectories_part():
    rows = [[1, 2, 3, trajectory, turn, turn] for trajectory in (1, 2, 3) for turn in (1, 2)]
    parts = split_by_size(tensors(rows), 8)
    assert [{rows[row][3] for row in part} for part in parts] == [{1}, {2}, {3}]


def test_rows_that_are_equal_share_a_part():
    assert split_by_size(tensors([[1, 2, 3]] * 40), 3) == [list(range(40))]


def test_a_row_longer_than_the_limit_is_named():
    with pytest.raises(ValueError, match="a row of 4 tokens does not fit into 3"):
        split_by_size(tensors([[1], [1, 2, 3, 4]]), 3)


@given(branching_rows(), st.data())
def test_parts_can_be_made_more(rows, data):
    ids = tensors(rows)
    parts = split_by_size(ids, 40)
    count = data.draw(st.integers(len(parts), len(rows)))
    more = split_further(parts, ids, count)
    assert len(more) == count and all(more)
    assert sorted(row for part in more for row in part) == list(range(len(rows)))
