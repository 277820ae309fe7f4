"""Ray actors. Nothing heavy is imported here: each actor imports this module, and verl takes ten
seconds of a processor.
"""

from __future__ import annotations

import asyncio
import os
import time

import ray


@ray.remote(num_cpus=0)
class Worker:
    def pid(self) -> int:
        return os.getpid()

    async def wait(self) -> None:
        time.sleep(60)  # blocks the actor's event loop: it cannot answer


@ray.remote(num_cpus=0)
class Server:
    """What verl's replica calls, and an update of weights that goes through it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def pid(self) -> int:
        return os.getpid()

    async def sleep(self) -> None:
        self.calls.append("sleep")

    async def abort_all_requests(self, reject_request: bool = False) -> None:
        self.calls.append(f"abort reject={reject_request}")

    async def resume_generation(self) -> None:
        self.calls.append("resume")

    async def take_weights(self, global_steps: int) -> None:
        self.calls.append(f"weights {global_steps}")

    async def generate_sequences(self, batch: object) -> None:
        self.calls.append(f"generate {batch}")

    async def told(self) -> list[str]:
        return self.calls

    async def hang(self) -> None:
        await asyncio.sleep(60)

    async def fail(self) -> None:
        raise ValueError("EngineCore died")
