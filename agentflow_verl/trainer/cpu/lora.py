"""LoRA in vLLM's CPU worker: right for requests with the adapter off, and as fast as its matrices.

vLLM's own operations (lora/ops/torch_ops/lora_ops.py) copy an adapter's weights once per token, and
take the index of a token without an adapter, -1, as the last adapter: a frozen module's request
that shares a batch with the policy's is answered with the adapter on (vLLM pull request 48421).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import linear
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU


class MatrixLora(PunicaWrapperCPU):
    """Two matrix products per adapter, over the tokens that ask for it."""

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: Sequence[torch.Tensor],
        lora_b_stacked: Sequence[torch.Tensor],
        scale: float,
        output_slices: Sequence[int],
        **_: Any,
    ) -> None:
        """Add to ``y``, slice by slice. Stacked weights are adapters × 1 × out × in."""
        y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
        start = 0
        for down, up, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
            part = y[:, start : start + width]
            add_products(part, x, (down, up), self.token_lora_indices, scale)
            start += width

    def add_lora_logits(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        scale: float,
        **_: Any,
    ) -> None:
        y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
        add_products(y, x, (lora_a_stacked, lora_b_stacked), self.sampler_indices, scale)

    def add_lora_embedding(
        self, y: torch.Tensor, x: torch.Tensor, lora_b_stacked: torch.Tensor, **_: Any
    ) -> None:
        add_products(y, x, (lora_b_stacked,), self.token_lora_indices, 1.0)


def add_products(
    y: torch.Tensor,
    x: torch.Tensor,
    stacked: Sequence[torch.Tensor],
    adapters: torch.Tensor,
    scale: float,
) -> None:
    """Add ``scale`` times x through its adapter's matrices to each row of ``y``; nothing to a row
    whose adapter is negative.
    """
    # One entry stands for all rows where vLLM tries its memory.
    if len(adapters) == 1:
        adapters = adapters.expand(len(x))
    for adapter in range(len(stacked[0])):
        rows = adapters[: len(x)] == adapter
        if not rows.any():
            continue
        everyone = bool(rows.all())
        change = x if everyone else x[rows]
        for weights in stacked:
            matrix = weights[adapter].flatten(0, -2)
            change = linear(change.to(matrix.dtype), matrix)
        change = (change * scale).to(y.dtype)
        # Vocabularies may be padded on one side only.
        width = min(y.shape[-1], change.shape[-1])
        if everyone:
            y[:, :width] += change[:, :width]
        else:
            y[rows, :width] += change[:, :width]
