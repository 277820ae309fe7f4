"""How the workers of a run on several nodes reach the tool servers that it started itself.

They run where the manager runs, and listen on its node's address. The run draws a token, which the
servers demand. The workers get it as an argument of a call and keep it in memory: Ray writes an
actor's ``runtime_env`` to its logs and to a command line
(ray/_private/runtime_env/agent/runtime_env_agent.py, "Creating runtime env"), and loggers write
down the configuration.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

import ray
from pydantic import SecretStr

from agentflow_verl.core.errors import InfraError
from agentflow_verl.tools.embedded.server_process import Reach


def reach_of_nodes() -> Reach | None:
    """None where the cluster has one node: then loopback does, without a token."""
    if sum(node["Alive"] for node in ray.nodes()) < 2:
        return None
    return Reach(ray.util.get_node_ip_address(), SecretStr(secrets.token_urlsafe(32)))


async def send_token(reach: Reach | None, workers: Sequence[Any], limit_s: float) -> None:
    """Hand the token, where there is one, to the workers. Raises InfraError after ``limit_s``."""
    if reach is None:
        return
    calls = [worker.set_tool_token.remote(reach.token) for worker in workers]
    try:
        await asyncio.wait_for(asyncio.gather(*calls), limit_s)
    except asyncio.TimeoutError:  # in Python 3.10 another class than TimeoutError
        raise InfraError(
            "the agent-loop workers did not start within"
            f" agentflow.server_timeout_s={limit_s:g} s; rerun the same command to resume from the"
            " last checkpoint"
        ) from None
