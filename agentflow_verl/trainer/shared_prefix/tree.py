"""Rows that begin alike, as one tree that holds each distinct token once.

A row is a planner turn: its prompt and its response. The rows of a group share the question and
often the analysis, the turns of a trajectory their memory, and two responses may begin alike. In
the tree two rows share a token where everything before it is equal too, so whatever a causal model
computes there is the same for both.

Tokens are packed depth first: a node's own before those of its children, so a subtree is one
contiguous piece. Suffixes: R rows, T tokens of all rows one after the other, N distinct tokens
(their index is a slot), D nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Node:
    """A run of tokens that the same rows share."""

    start: int
    """Its first slot."""
    length: int
    depth: int
    """Tokens before it on its path, which is also its first token's position."""
    parent: int
    """The node before it on its path; -1 for a root."""
    end: int
    """One after the last slot of its subtree."""


@dataclass(frozen=True)
class PrefixTree:
    """See the module. Tensors are int64 on the CPU."""

    token_N: Tensor
    position_N: Tensor
    """Of a token in its rows, from 0."""
    slot_T: Tensor
    """Where each token of each row is in the tree."""
    length_R: Tensor
    order_R: Tensor
    """The rows, as they stand in the tree from left to right."""
    nodes: tuple[Node, ...]

    @classmethod
    def of(cls, rows: Sequence[Tensor]) -> PrefixTree:
        """The tree of rows of token ids (int64, one dimension, not empty).

        In sorted order a row shares with those before it what it shares with its left neighbour, so
        each row adds the rest of its tokens, and no search is needed.
        """
        arrays = [row.numpy() for row in rows]
        # Big-endian bytes are in the order of the numbers, which Python compares in one call.
        order = sorted(range(len(rows)), key=lambda row: arrays[row].astype(">i8").tobytes())
        slots: list[Tensor] = [torch.empty(0)] * len(rows)
        pieces: list[Tensor] = []
        positions: list[Tensor] = []
        starts: dict[int, int] = {}  # slot -> the slot before it on its path
        size = 0
        before, before_slots = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
        for row in order:
            tokens = rows[row]
            shared = _common_length(before, tokens)
            new = len(tokens) - shared
            if new and (shared == 0 or shared < len(before)):
                # A branch: what follows it on either side is a node of its own.
                last = int(before_slots[shared - 1]) if shared else -1
                starts[size] = last
                if shared:
                    starts.setdefault(int(before_slots[shared]), last)
            pieces.append(tokens[shared:])
            positions.append(torch.arange(shared, len(tokens)))
            own_slots = torch.cat([before_slots[:shared], torch.arange(size, size + new)])
            slots[row] = before_slots = own_slots
            before, size = tokens, size + new
        position_N = torch.cat(positions)
        return cls(
            token_N=torch.cat(pieces),
            position_N=position_N,
            slot_T=torch.cat(slots),
            length_R=torch.tensor([len(row) for row in rows]),
            order_R=torch.tensor(order),
            nodes=_nodes(starts, position_N),
        )

    @property
    def size(self) -> int:
        """N, the number of distinct tokens."""
        return len(self.token_N)

    @cached_property
    def node_N(self) -> Tensor:
        """The node of each slot."""
        length_D = torch.tensor([node.length for node in self.nodes])
        return torch.repeat_interleave(torch.arange(len(self.nodes)), length_D)

    @cached_property
    def children_D(self) -> list[list[int]]:
        """Of each node, from left to right."""
        children: list[list[int]] = [[] for _ in self.nodes]
        for number, node in enumerate(self.nodes):
            if node.parent >= 0:
                children[node.parent].append(number)
        return children

    @property
    def roots(self) -> list[int]:
        return [number for number, node in enumerate(self.nodes) if node.parent < 0]


def _common_length(left: Tensor, right: Tensor) -> int:
    """How many first tokens two rows have in common."""
    shorter = min(len(left), len(right))
    different = (left[:shorter] != right[:shorter]).nonzero()
    return int(different[0]) if len(different) else shorter


def _nodes(starts: dict[int, int], position_N: Tensor) -> tuple[Node, ...]:
    """Nodes from their first slots and the slots before those."""
    first_D = torch.tensor(sorted(starts))
    length_D = torch.diff(first_D, append=torch.tensor([len(position_N)]))
    # The node that holds a slot is the last that begins at or before it.
    before_D = torch.tensor([starts[slot] for slot in first_D.tolist()])
    parent_D = torch.searchsorted(first_D, before_D, right=True) - 1
    starts_at, lengths, parents = first_D.tolist(), length_D.tolist(), parent_D.tolist()
    ends = [start + length for start, length in zip(starts_at, lengths)]
    for number in reversed(range(len(ends))):  # children come after their parents
        if parents[number] >= 0:
            ends[parents[number]] = max(ends[parents[number]], ends[number])
    depths = position_N[first_D].tolist()
    return tuple(map(Node, starts_at, lengths, depths, parents, ends))


# ---- what reaches the head ----


@dataclass(frozen=True)
class Predictions:
    """The positions whose logits are wanted. P distinct ones, A response tokens of all rows, row
    after row.
    """

    slot_P: Tensor
    """Slots that some row's response token follows."""
    position_A: Tensor
    """Which of them comes before each response token."""
    label_A: Tensor
    """The response token itself."""
    place_A: Tensor
    """Where the token before it stands among the T tokens of all rows."""

    @classmethod
    def of(cls, tree: PrefixTree, prompt_length_R: Tensor) -> Predictions:
        """Of rows whose prompts have these lengths, at least 1."""
        start_R = tree.length_R.cumsum(0) - tree.length_R
        place_T = torch.arange(len(tree.slot_T))
        row_T = torch.repeat_interleave(torch.arange(len(start_R)), tree.length_R)
        is_response_T = place_T - start_R[row_T] >= prompt_length_R[row_T]
        token_A = place_T[is_response_T]
        place_A = token_A - 1
        slot_P, position_A = tree.slot_T[place_A].unique(return_inverse=True)
        return cls(slot_P, position_A, tree.token_N[tree.slot_T[token_A]], place_A)

    def to(self, device: torch.device) -> Predictions:
        return Predictions(
            self.slot_P.to(device),
            self.position_A.to(device),
            self.label_A.to(device),
            self.place_A.to(device),
        )


# ---- micro-batches ----


def split_by_size(rows: Sequence[Tensor], limit: int) -> list[list[int]]:
    """Rows in parts whose trees hold at most ``limit`` distinct tokens each.

    What hangs together stays together: groups are packed whole while they fit, a larger one is cut
    where its trajectories part, and then costs the common prefix once more for each part.

    Raises:
        ValueError: a row alone is longer.
    """
    tree = PrefixTree.of(rows)
    longest = int(tree.length_R.max())
    if longest > limit:
        raise ValueError(f"a row of {longest} tokens does not fit into {limit}")
    last_R = torch.cumsum(tree.length_R, 0) - 1
    node_R = tree.node_N[tree.slot_T[last_R]].tolist()
    ending: list[list[int]] = [[] for _ in tree.nodes]
    for row in tree.order_R.tolist():
        ending[node_R[row]].append(row)

    def rows_of(number: int) -> list[int]:
        found = list(ending[number])
        for child in tree.children_D[number]:
            found += rows_of(child)
        return found

    def split(siblings: list[int], depth: int) -> list[list[int]]:
        """Parts of the subtrees of nodes that follow one path of ``depth`` tokens."""
        parts: list[list[int]] = []
        part: list[int] = []
        size = depth
        for number in siblings:
            node = tree.nodes[number]
            whole = node.end - node.start
            if depth + whole > limit:
                smaller = split(tree.children_D[number], depth + node.length)
                # Rows that end within the path cost nothing where the path is anyway.
                smaller[0] = ending[number] + smaller[0]
                parts += smaller
                continue
            if part and size + whole > limit:
                parts.append(part)
                part, size = [], depth
            part = part + rows_of(number)
            size += whole
        return [*parts, part] if part else parts

    return split(tree.roots, 0)


def split_further(parts: list[list[int]], rows: Sequence[Tensor], count: int) -> list[list[int]]:
    """The parts, the longest of them halved until there are ``count``: ranks that compute together
    need equally many. There must be that many rows.
    """
    parts = list(parts)
    while len(parts) < count:
        tokens = [sum(len(rows[row]) for row in part) if len(part) > 1 else 0 for part in parts]
        longest = tokens.index(max(tokens))
        whole = parts[longest]
        middle = len(whole) // 2
        parts[longest : longest + 1] = [whole[:middle], whole[middle:]]
    return parts
