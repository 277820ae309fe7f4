"""Starts what trajectories need beside the policy, then the workers: verl's
``agent_loop_manager_class``.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import ray
from tensordict import TensorDict
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ
from verl.utils.ray_utils import auto_await

from agentflow_verl.config import schema
from agentflow_verl.core.errors import InfraError
from agentflow_verl.tools.embedded.supervisor import Supervisor
from agentflow_verl.trainer.resilience.control_limit import ANSWER_S, within, without_answer
from agentflow_verl.trainer.rollout.frozen_base import base_replicas, make_base, server_name
from agentflow_verl.trainer.rollout.reach import reach_of_nodes, send_token
from agentflow_verl.trainer.rollout.worker import FlowWorker
from agentflow_verl.trainer.rollout.worker_settings import WorkerSettings, resolve_node

logger = logging.getLogger(__name__)


class FlowManager(AgentLoopManagerTQ):
    """Owns the frozen base replicas and the embedded tool servers. ``close`` ends both."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.reach = reach_of_nodes()
        # Read by verl's _init_agent_loop_workers, which runs after this.
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
        # Also where Ray or the user interrupts: the tool servers are processes of this one, the
        # replicas are Ray's and would keep their GPUs.
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
        await send_token(self.reach, self.agent_loop_workers, settings.server_timeout_s)

    def _start_tools(self, settings: schema.AgentflowConfig) -> dict[str, tuple[str, ...]]:
        configs = tuple(settings.tools.values())
        logs = Path(self.config.trainer.default_local_dir) / "tool_servers"
        self.supervisor = Supervisor(configs, logs, reach=self.reach)
        embedded = {config.name for config in configs if config.embedded}
        urls = {}
        for started in self.supervisor.start():
            # What is started has URLs like any other, so ask the configuration.
            if started.name in embedded:
                urls[started.name] = started.urls
        logger.info("embedded tool servers: %s", ", ".join(urls) or "none")
        return urls

    def generate_sequences(self, prompts: TensorDict) -> None:
        """verl's, with a limit on how long the workers may take to begin."""
        limit_s = self.config.agentflow.server_timeout_s
        try:
            within(lambda: super(FlowManager, self).generate_sequences(prompts), limit_s)
        except TimeoutError:
            silent = ", ".join(without_answer(self.workers(), ANSWER_S)) or "none"
            raise InfraError(
                "the agent-loop workers did not begin a batch within"
                f" agentflow.server_timeout_s={limit_s:g} s (without an answer: {silent}); rerun"
                " the same command to resume from the last checkpoint"
            ) from None

    def workers(self) -> dict[str, Any]:
        """The agent-loop workers, by a name for messages."""
        return {
            f"agent-loop worker {number}": worker
            for number, worker in enumerate(self.agent_loop_workers)
        }

    def actors(self) -> dict[str, Any]:
        """The Ray actors without which no trajectory can end, by a name for messages."""
        actors = self.workers()
        # Of several frozen replicas the others take over when one dies.
        if len(self.replicas) == 1:
            for number, server in enumerate(self.replicas[0].servers):
                actors[f"frozen base server {number}"] = server
        return actors

    def close(self) -> None:
        """End the tool servers and the frozen replicas. Safe to call twice."""
        if self.supervisor is not None:
            self.supervisor.stop()
            self.supervisor = None
        for replica in self.replicas:
            for actor in (*replica.servers, *replica.workers):
                ray.kill(actor)
        self.replicas = []
