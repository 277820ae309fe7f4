"""How the workers of a run on several nodes reach the tool servers that it started itself.

They run where the manager runs, and listen on its node's address. The run draws a token, which the
servers demand and the workers find in their environment: it stands in no configuration, so that no
logger writes it down.
"""

from __future__ import annotations

import os
import secrets
from typing import Any

import ray

from agentflow_verl.tools.embedded.server_process import Reach

TOOL_TOKEN = "AGENTFLOW_EMBEDDED_TOOL_TOKEN"


def reach_of_nodes() -> Reach | None:
    """None where the cluster has one node: then loopback does, without a token."""
    if sum(node["Alive"] for node in ray.nodes()) < 2:
        return None
    os.environ.setdefault(TOOL_TOKEN, secrets.token_urlsafe(32))
    return Reach(ray.util.get_node_ip_address(), TOOL_TOKEN)


def remote_with_token(worker: type) -> Any:
    """``ray.remote(worker)``, with the token in its environment where there is one."""
    if TOOL_TOKEN not in os.environ:
        return ray.remote(worker)
    token = {TOOL_TOKEN: os.environ[TOOL_TOKEN]}
    return ray.remote(runtime_env={"env_vars": token})(worker)
