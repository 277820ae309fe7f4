"""Weights from the actor to rollout servers on devices of their own, through Ray's object store.

``separate_async`` refuses verl's ``naive`` engine (trainer_separate_async.py:68), and the engines
that verl ships need an accelerator's transport (nccl, hccl, nixl, mooncake, kimi). verl imports
this module by name (``checkpoint_engine.custom_backend_module``); choose it with
``checkpoint_engine.backend=ray``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import ray
import torch
from verl.checkpoint_engine.base import CheckpointEngine, CheckpointEngineRegistry

Part = dict[str, torch.Tensor]


class Mailbox:
    """One update's weights, part by part. The actor's first rank fills it, every rollout rank reads
    all of it.
    """

    def __init__(self) -> None:
        self.parts: list[Part | None] = []
        self.arrived = asyncio.Condition()

    async def put(self, part: Part | None) -> None:
        async with self.arrived:
            self.parts.append(part)
            self.arrived.notify_all()

    async def get(self, number: int) -> Part | None:
        """Part ``number``, once it is there; None after the last."""
        async with self.arrived:
            await self.arrived.wait_for(lambda: number < len(self.parts))
            return self.parts[number]


@CheckpointEngineRegistry.register("ray")
class RayCheckpointEngine(CheckpointEngine):
    """Full tensors in parts of about ``bucket_size`` bytes."""

    def __init__(self, bucket_size: int, is_master: bool = False):
        self.bucket_size = bucket_size
        self.is_master = is_master
        self.mailbox: Any = None

    def prepare(self) -> Any:
        """The master's mailbox of this update; None from everyone else."""
        # num_cpus=0: an actor that only waits must not hold a core in Ray's count.
        return ray.remote(Mailbox).options(num_cpus=0).remote() if self.is_master else None

    @classmethod
    def build_topology(
        cls, actor_wg_world_size: int, rollout_world_size: int, metadata: list[Any]
    ) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
        mailbox = metadata[0]
        return {"mailbox": [mailbox] * actor_wg_world_size}, {
            "mailbox": [mailbox] * rollout_world_size
        }

    def init_process_group(self, **topology: Any) -> None:
        self.mailbox = topology["mailbox"]

    def finalize(self) -> None:
        self.mailbox = None  # the last handle ends it

    async def send_weights(
        self, weights: Iterator[tuple[str, torch.Tensor]], global_steps: int | None = None
    ) -> None:
        """Every rank walks ``weights``, as gathering them is collective; the master sends them."""
        part, size = {}, 0
        for name, weight in weights:
            if self.is_master:
                # A copy: on a CPU .cpu() is none, and what was gathered is reused afterwards.
                part[name] = weight.detach().cpu().clone()
                size += weight.nbytes
            if size >= self.bucket_size:
                await self.mailbox.put.remote(part)
                part, size = {}, 0
        if self.is_master:
            await self.mailbox.put.remote(part)
            await self.mailbox.put.remote(None)

    # verl declares a coroutine and iterates over it with ``async for``, as its own engines allow.
    async def receive_weights(  # type: ignore[override]
        self, global_steps: int | None = None
    ) -> AsyncIterator[tuple[str, torch.Tensor]]:
        number = 0
        while (part := await self.mailbox.get.remote(number)) is not None:
            for name, weight in part.items():
                yield name, weight
            number += 1
