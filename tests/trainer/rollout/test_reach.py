"""The token of a run's tool servers reaches its workers as an argument of a call, and is in no
environment: Ray logs that of an actor.
"""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from agentflow_verl.config import schema
from agentflow_verl.core.errors import InfraError
from agentflow_verl.tools.embedded.server_process import Reach
from agentflow_verl.trainer.rollout import manager as manager_module
from agentflow_verl.trainer.rollout import reach as reach_module
from agentflow_verl.trainer.rollout import services as services_module
from agentflow_verl.trainer.rollout.manager import FlowManager
from agentflow_verl.trainer.rollout.reach import reach_of_nodes, send_token
from agentflow_verl.trainer.rollout.services import Services
from agentflow_verl.trainer.rollout.worker import FlowWorker


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, bool]]:
    alive = [{"Alive": True}, {"Alive": True}, {"Alive": False}]
    monkeypatch.setattr(reach_module.ray, "nodes", lambda: alive)
    monkeypatch.setattr(reach_module.ray.util, "get_node_ip_address", lambda: "10.0.0.1")
    return alive


class Worker:
    """Its method as a handle has it."""

    def __init__(self, seconds: float = 0.0):
        self.seconds = seconds
        self.flow_worker = FlowWorker.__new__(FlowWorker)
        self.set_tool_token = SimpleNamespace(remote=self._call)

    async def _call(self, token: SecretStr) -> None:
        await asyncio.sleep(self.seconds)
        await self.flow_worker.set_tool_token(token)


def test_one_node_needs_no_token(nodes):
    nodes.pop(0)
    assert reach_of_nodes() is None


def test_neither_environment_nor_runtime_environment_holds_the_token(nodes, monkeypatch):
    monkeypatch.setattr(
        manager_module.AgentLoopManagerTQ, "__init__", lambda self, *args, **kwargs: None
    )
    manager = FlowManager()
    token = manager.reach.token.get_secret_value()
    assert len(token) >= 32
    options = manager.agent_loop_workers_class._default_options
    assert not options.get("runtime_env") and token not in repr(options)
    assert token not in os.environ.values()


async def test_every_worker_gets_the_token():
    workers = [Worker(), Worker()]
    reach = Reach("10.0.0.1", SecretStr("t" * 16))
    await send_token(None, workers, 1.0)
    assert not hasattr(workers[0].flow_worker, "_tool_token")
    await send_token(reach, workers, 10.0)
    assert all(worker.flow_worker._tool_token == reach.token for worker in workers)


async def test_a_worker_that_does_not_start_ends_the_run_with_a_line():
    with pytest.raises(InfraError, match="did not start within agentflow.server_timeout_s=0.05 s"):
        await send_token(Reach("10.0.0.1", SecretStr("t" * 16)), [Worker(60)], 0.05)


@pytest.mark.parametrize("token", [None, SecretStr("t" * 16)])
async def test_a_variable_of_that_name_is_sent_nowhere(monkeypatch, token):
    """Only what the manager handed over is."""

    class Opened(Exception):
        pass

    async def take(configs: Any, patience_s: float) -> None:
        raise Opened(configs)

    monkeypatch.setattr(services_module.ToolBox, "open", take)
    monkeypatch.setenv("AGENTFLOW_EMBEDDED_TOOL_TOKEN", "stale" * 4)
    config = schema.load({"tools": {"python_coder": {}}})
    urls = {"python_coder": ("http://127.0.0.1:1/mcp",)}
    with pytest.raises(Opened) as opened:
        await Services.open(config, urls, (), None, None, {}, tool_token=token)
    ((tool,),) = opened.value.args
    assert tool.token_env is None
    sent = {name: value.get_secret_value() for name, value in tool.headers.items()}
    assert sent == ({"Authorization": "Bearer " + "t" * 16} if token else {})
