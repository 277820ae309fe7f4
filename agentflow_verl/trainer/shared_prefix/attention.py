"""Attention over a packed tree: each token sees the tokens before it in its own rows, and no other.

Everything else in a transformer works token by token, so this is all that a tree needs. The tree's
tokens are one sequence; a *segment* is a contiguous piece of it whose queries attend together to
the tokens of one path above them and to themselves. Where flash-attention is, a segment is one
node, causal from the bottom right, and all of them are one call of its variable-length function.
Elsewhere each is a call of torch's, under a mask where it holds more than a chain; small subtrees
are then one segment, since a call costs more than a few products that the mask throws away.

Shapes: B=1, H query heads, K key heads, N distinct tokens, E head size.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from agentflow_verl.trainer.installed import has_flash_attn
from agentflow_verl.trainer.shared_prefix.tree import PrefixTree

NAME = "agentflow_shared_prefix"
"""Under which transformers knows it (``config._attn_implementation``)."""

UNKNOWN_ARGUMENTS = ("s_aux", "indices", "position_bias")
"""What some models hand to their attention, and what changes its result: learnt sinks, chosen keys,
a bias.
"""

# What a segment costs, in products of one query and one key: a key is copied, a call has overhead.
# Fitted on two CPU cores with heads of 64; the plan is flat around the minimum.
KEY_COST = 32
CALL_COST = 16_384


@dataclass(frozen=True)
class Segment:
    """Queries ``start`` to ``end`` and the nodes whose keys they see: those of the path above, and
    their own.
    """

    start: int
    end: int
    path: tuple[int, ...]
    own: tuple[int, ...]


def plan_segments(tree: PrefixTree, one_node_each: bool = False) -> list[Segment]:
    """The cheapest segments, from left to right: subtrees of siblings as one, or each node alone.

    ``one_node_each``: no masks, so no merging.
    """

    def cost(queries: int, depth: int) -> int:
        keys = depth + queries
        return queries * keys + KEY_COST * keys + CALL_COST

    def merged(numbers: list[int], path: tuple[int, ...]) -> Segment:
        start, end = tree.nodes[numbers[0]].start, tree.nodes[numbers[-1]].end
        first, last = int(tree.node_N[start]), int(tree.node_N[end - 1])
        return Segment(start, end, path, tuple(range(first, last + 1)))

    def plan(numbers: list[int], path: tuple[int, ...]) -> tuple[int, list[Segment]]:
        """Cost and segments of the subtrees of siblings."""
        total = 0
        segments: list[Segment] = []
        for number in numbers:
            node = tree.nodes[number]
            alone = Segment(node.start, node.start + node.length, path, (number,))
            below, rest = plan(tree.children_D[number], (*path, number))
            apart = cost(node.length, node.depth) + below
            whole = cost(node.end - node.start, node.depth)
            if rest and whole < apart and not one_node_each:
                total, segments = total + whole, [*segments, merged([number], path)]
            else:
                total, segments = total + apart, [*segments, alone, *rest]
        if len(numbers) > 1 and not one_node_each:
            first, last = tree.nodes[numbers[0]], tree.nodes[numbers[-1]]
            whole = cost(last.end - first.start, first.depth)
            if whole < total:
                return whole, [merged(numbers, path)]
        return total, segments

    return plan(tree.roots, ())[1]


class TreeAttention:
    """What the attention of every layer needs to know of a tree. Made once per micro-batch, and
    handed to the model as the argument ``tree``; a plain class, since FSDP copies dataclasses.
    """

    def __init__(self, tree: PrefixTree, device: torch.device):
        self.varlen = flash_varlen(device)
        self.segments = plan_segments(tree, one_node_each=self.varlen is not None)
        self.lengths = [node.length for node in tree.nodes]
        self.node_ends_N = torch.tensor([node.end for node in tree.nodes])[tree.node_N].to(device)
        self.position_N = tree.position_N.to(device)
        self.slots_D = torch.arange(tree.size, device=device).split(self.lengths)
        self._masks: dict[tuple[int, int | None], Tensor | None] = {}
        self._gather: tuple[Tensor, Tensor, Tensor, int, int] | None = None

    def mask(self, number: int, window: int | None, like: Tensor) -> Tensor | None:
        """What segment ``number`` adds to its scores, (queries, keys); None where plain causal
        attention is the same. ``window``: how many tokens back a query sees.
        """
        key = (number, window)
        if key not in self._masks:
            self._masks[key] = self._make_mask(self.segments[number], window, like)
        return self._masks[key]

    def _make_mask(self, segment: Segment, window: int | None, like: Tensor) -> Tensor | None:
        alone = len(segment.own) == 1 and not segment.path
        if alone and (window is None or window >= segment.end - segment.start):
            return None
        query_Q = torch.arange(segment.start, segment.end, device=like.device).unsqueeze(1)
        key_K = torch.cat([self.slots_D[node] for node in (*segment.path, *segment.own)])
        # Depth first, the slots of a key's subtree are those from itself to its node's end.
        seen_QK = (key_K <= query_Q) & (query_Q < self.node_ends_N[key_K])
        if window is not None:
            seen_QK &= self.position_N[query_Q] - self.position_N[key_K] < window
        mask_QK = torch.zeros(seen_QK.shape, dtype=like.dtype, device=like.device)
        return mask_QK.masked_fill_(~seen_QK, torch.finfo(like.dtype).min)

    def gather(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, int, int]:
        """For the variable-length call: slots of all keys, offsets of queries and keys, and the
        longest of both.
        """
        if self._gather is None:
            keys = [
                torch.cat([self.slots_D[node] for node in (*segment.path, *segment.own)])
                for segment in self.segments
            ]
            queries = [segment.end - segment.start for segment in self.segments]
            seen = [len(key) for key in keys]
            self._gather = (
                torch.cat(keys).to(device),
                _offsets(queries, device),
                _offsets(seen, device),
                max(queries),
                max(seen),
            )
        return self._gather


def _offsets(lengths: list[int], device: torch.device) -> Tensor:
    return F.pad(torch.tensor(lengths).cumsum(0), (1, 0)).to(device, torch.int32)


def flash_varlen(device: torch.device) -> Callable[..., Tensor] | None:
    """flash-attention's variable-length function, where the package and a GPU are."""
    if device.type != "cuda" or not has_flash_attn():
        return None
    function: Callable[..., Tensor] = importlib.import_module("flash_attn").flash_attn_varlen_func
    return function


def tree_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    tree: TreeAttention | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: (1, H, N, E) and (1, K, N, E) to (1, N, H, E).

    Raises:
        ValueError: without a tree, with dropout, whose draws would differ from the rows', or with
            an argument that would be ignored.
    """
    if tree is None:
        raise ValueError("attention over a shared prefix was called without its tree")
    if dropout:
        raise ValueError(f"attention over a shared prefix has no dropout, not {dropout}")
    for name in UNKNOWN_ARGUMENTS:
        if others.get(name) is not None:
            raise ValueError(f"attention over a shared prefix does not know {name}")
    if tree.varlen is not None and _flash_takes(query, value):
        return _in_one_call(tree, query, key, value, scaling, sliding_window, softcap), None
    keys, values = key.split(tree.lengths, dim=2), value.split(tree.lengths, dim=2)
    sizes = [segment.end - segment.start for segment in tree.segments]
    outputs = []
    for number, queries in enumerate(query.split(sizes, dim=2)):
        segment = tree.segments[number]
        seen = (*segment.path, *segment.own)
        outputs.append(
            _attend(
                queries,
                torch.cat([keys[node] for node in seen], dim=2),
                torch.cat([values[node] for node in seen], dim=2),
                tree.mask(number, sliding_window, query),
                scaling,
                softcap,
            )
        )
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


FLASH_DTYPES = (torch.float16, torch.bfloat16)


def _flash_takes(query: Tensor, value: Tensor) -> bool:
    """Whether flash-attention has a kernel for these types and head sizes."""
    size = query.shape[-1]
    return query.dtype in FLASH_DTYPES and size == value.shape[-1] and size <= 256


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_QK: Tensor | None,
    scaling: float | None,
    softcap: float | None,
) -> Tensor:
    """One segment. ``softcap``: scores are bent by a hyperbolic tangent (Gemma 2), which torch's
    function does not know.
    """
    if softcap is None:
        return F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask_QK,
            is_causal=mask_QK is None and query.shape[2] > 1,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = softcap * torch.tanh(query @ key.transpose(2, 3) * scale / softcap)
    if mask_QK is None:
        size = query.shape[2]
        mask_QK = torch.full((size, size), torch.finfo(query.dtype).min, device=query.device)
        mask_QK = mask_QK.triu(1).to(query.dtype)
    return (scores + mask_QK).softmax(-1, dtype=torch.float32).to(query.dtype) @ value


def _in_one_call(
    tree: TreeAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """All segments as a batch of variable lengths; flash-attention aligns its causal mask and its
    window at the bottom right.
    """
    assert tree.varlen is not None
    slots, query_offsets, key_offsets, most_queries, most_keys = tree.gather(query.device)
    output = tree.varlen(
        query.squeeze(0).transpose(0, 1),
        key.squeeze(0).transpose(0, 1)[slots],
        value.squeeze(0).transpose(0, 1)[slots],
        query_offsets,
        key_offsets,
        most_queries,
        most_keys,
        softmax_scale=scaling,
        causal=True,
        window_size=(-1, -1) if window is None else (window - 1, 0),
        softcap=softcap or 0.0,
        # As transformers reads it; verl sets it for full_determinism.
        deterministic=os.environ.get("FLASH_ATTENTION_DETERMINISTIC", "0") == "1",
    )
    return output.unsqueeze(0)


def register() -> None:
    """Make it known to transformers under ``NAME``. It needs no mask of a model's making, and a
    name without a mask function gets none.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, tree_attention)
