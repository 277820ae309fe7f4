"""Weight updates that the agent-loop workers know of, so that they charge no trajectory for them.

verl's ``CheckpointEngineManager`` aborts what its rollout servers generate, updates their weights
and lets them go on. In ``colocate_async`` the whole training step lies between the two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from verl.checkpoint_engine.base import CheckpointEngineManager
from verl.utils.ray_utils import auto_await


class AnnouncingManager(CheckpointEngineManager):
    """verl's manager, which tells ``workers`` (FlowWorker actors) before it aborts requests, and
    after it let the servers go on.
    """

    def __init__(self, manager: CheckpointEngineManager, workers: Sequence[Any]):
        super().__init__(manager.config, manager.actor_wg, manager.replicas)
        self.workers = workers

    # verl's ``auto_await`` makes these plain functions where no event loop runs; its
    # ``update_weights`` awaits them.

    @auto_await
    async def abort_replicas(self, reject_request: bool = False) -> None:
        # First the workers, then the servers: otherwise the wait after an abort would be taken from
        # a trajectory's time.
        await asyncio.gather(*(worker.suspend_generation.remote() for worker in self.workers))
        await super().abort_replicas(reject_request=reject_request)

    @auto_await
    async def resume_generation_replicas(self) -> None:
        # The other way round here: a clock that runs again must find servers that answer.
        await super().resume_generation_replicas()
        await asyncio.gather(*(worker.resume_generation.remote() for worker in self.workers))
