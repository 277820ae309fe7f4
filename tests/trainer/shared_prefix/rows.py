"""Rows that share beginnings, drawn by hypothesis: every way in which a batch can repeat itself."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

TOKENS = st.integers(1, 5)  # few, so that rows meet by chance too


@st.composite
def branching_rows(draw: st.DrawFn, most: int = 14, depth: int = 12) -> list[list[int]]:
    """Each row begins with some of an earlier one, or with nothing of it: up to ``depth`` branches
    above each other, equal rows, a row that is the beginning of another, and rows of one token.
    """
    rows = [draw(st.lists(TOKENS, min_size=1, max_size=8))]
    branches = [0]
    for _ in range(draw(st.integers(0, most - 1))):
        source = draw(st.integers(0, len(rows) - 1))
        kept = draw(st.integers(0, len(rows[source])))
        if branches[source] >= depth:
            kept = 0
        new = draw(st.lists(TOKENS, min_size=0 if kept else 1, max_size=6))
        rows.append(rows[source][:kept] + new)
        branches.append(branches[source] + 1 if kept else 0)
    return rows


def tensors(rows: list[list[int]]) -> list[Tensor]:
    return [torch.tensor(row) for row in rows]


def beginnings(rows: list[list[int]]) -> set[tuple[int, ...]]:
    """All that rows begin with: one for each distinct token of their tree."""
    found = set()
    for row in rows:
        for length in range(1, len(row) + 1):
            found.add(tuple(row[:length]))
    return found
