"""Embedded servers that other machines of a run call: at this machine's address, with a token."""

from __future__ import annotations

import socket

import pytest

from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.tools.embedded.server_process import Reach
from agentflow_verl.tools.embedded.supervisor import Supervisor
from agentflow_verl.tools.toolbox import ToolBox

TOKEN = "a-token-of-this-test-alone"


@pytest.fixture
def address() -> str:
    """Of this machine, off loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("10.255.255.255", 1))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but loopback's")
        return probe.getsockname()[0]


@pytest.fixture
def reach(address: str, monkeypatch: pytest.MonkeyPatch) -> Reach:
    monkeypatch.setenv("RUNS_TOKEN", TOKEN)
    return Reach(address, "RUNS_TOKEN")


async def test_our_servers_answer_at_that_address_to_who_has_the_token(address, reach):
    with Supervisor([ToolConfig(name="web_search")], reach=reach) as supervisor:
        (config,) = supervisor.configs
        assert config.urls[0].startswith(f"http://{address}:")
        assert TOKEN not in repr(config)
        async with await ToolBox.open([config]) as tools:
            assert [spec.name for spec in tools.specs] == ["web_search"]
        with pytest.raises(ConfigError, match="401"):
            await ToolBox.open([config.model_copy(update={"token_env": None})])


async def test_they_do_not_listen_on_loopback(reach):
    with Supervisor([ToolConfig(name="web_search")], reach=reach) as supervisor:
        port = int(supervisor.configs[0].urls[0].rpartition(":")[2].removesuffix("/mcp"))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
