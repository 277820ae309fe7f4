"""Starts what trajectories need beside the policy, then the workers: verl's
``agent_loop_manager_class``.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import ray
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ
from verl.utils.ray_utils import auto_await

from agentflow_verl.config import schema
from agentflow_verl.tools.embedded.supervisor import Supervisor
from agentflow_verl.trainer.rollout.frozen_base import base_replicas, make_base, server_name
from agentflow_verl.trainer.rollout.worker import FlowWorker
from agentflow_verl.trainer.rollout.worker_settings import WorkerSettings, resolve_node

logger = logging.getLogger(__name__)


class FlowManager(AgentLoopManagerTQ):
    """Owns the frozen base replicas and the embedded tool servers. ``close`` ends both."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(FlowWorker)
        self.replicas: list[Any] = []
        self.supervisor: Supervisor | None = None

    @classmethod
    @auto_await
    async def create(cls, *args: Any, **kwargs: Any) -> FlowManager:
        manager = cls(*args, **kwargs)
        settings = schema.load(resolve_node(manager.config.agentflow))
        try:
            if count := base_replicas(manager.config, settings):
                manager.replicas = make_base(manager.config, count, settings.base.max_tokens)
            await asyncio.gather(
                manager._start_workers(settings),
                *(replica.init_standalone() for replica in manager.replicas),
            )
        except BaseException:
            manager.close()
            raise
        return manager

    async def _start_workers(self, settings: schema.AgentflowConfig) -> None:
        """The tools, then the workers, which import while the frozen base loads and call it when
        first asked.
        """
        tool_urls = await asyncio.to_thread(self._start_tools, settings)
        WorkerSettings(settings, tool_urls, tuple(map(server_name, self.replicas))).store(
            self.config
        )
        await self._init_agent_loop_workers()

    def _start_tools(self, settings: schema.AgentflowConfig) -> dict[str, tuple[str, ...]]:
        configs = tuple(settings.tools.values())
        embedded = [config.name for config in configs if config.embedded]
        logs = Path(self.config.trainer.default_local_dir) / "tool_servers"
        self.supervisor = Supervisor(configs, logs)
        started = self.supervisor.start()
        logger.info("embedded tool servers: %s", ", ".join(embedded) or "none")
        return {config.name: config.urls for config in started if config.name in embedded}

    def actors(self) -> dict[str, Any]:
        """The Ray actors without which no trajectory ends, by what they are. One of several frozen
        replicas is none of them.
        """
        workers = {
            f"agent-loop worker {number}": worker
            for number, worker in enumerate(self.agent_loop_workers)
        }
        servers = self.replicas[0].servers if len(self.replicas) == 1 else []
        return workers | {
            f"frozen base server {number}": server for number, server in enumerate(servers)
        }

    def close(self) -> None:
        """End the tool servers and the frozen replicas. Safe to call twice."""
        if self.supervisor is not None:
            self.supervisor.stop()
            self.supervisor = None
        for replica in self.replicas:
            for actor in (*replica.servers, *replica.workers):
                ray.kill(actor)
        self.replicas = []
