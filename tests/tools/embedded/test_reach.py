"""Embedded servers that other machines of a run call: at this machine's address, with a token."""

from __future__ import annotations

import socket
import sys

import pytest
from pydantic import SecretStr

from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.tools.embedded.server_process import Reach
from agentflow_verl.tools.embedded.supervisor import Supervisor
from agentflow_verl.tools.toolbox import ToolBox

TOKEN = "a-token-of-this-test-alone"
OPEN_SERVER = """
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/healthz" else STATUS)
        self.end_headers()
words = sys.argv
address = words[words.index("--host") + 1], int(words[words.index("--port") + 1])
server = http.server.HTTPServer(address, Handler)
print(json.dumps({"event": "listening", "port": server.server_port}), flush=True)
server.serve_forever()
"""


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
def reach(address: str) -> Reach:
    return Reach(address, SecretStr(TOKEN))


async def test_our_servers_answer_at_that_address_to_who_has_the_token(address, reach):
    with Supervisor([ToolConfig(name="web_search")], reach=reach) as supervisor:
        (config,) = supervisor.configs
        assert config.urls[0].startswith(f"http://{address}:")
        assert TOKEN not in repr(config) + repr(reach)
        async with await ToolBox.open([config]) as tools:
            assert [spec.name for spec in tools.specs] == ["web_search"]
        with pytest.raises(ConfigError, match="401"):
            await ToolBox.open([config.model_copy(update={"headers": {}})])


async def test_they_do_not_listen_on_loopback(reach):
    with Supervisor([ToolConfig(name="web_search")], reach=reach) as supervisor:
        port = int(supervisor.configs[0].urls[0].rpartition(":")[2].removesuffix("/mcp"))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)


@pytest.mark.parametrize("status", [200, 405])
def test_a_server_that_answers_without_the_token_is_refused(address, reach, status):
    command = (sys.executable, "-c", OPEN_SERVER.replace("STATUS", str(status)))
    supervisor = Supervisor([ToolConfig(name="mine", command=command)], reach=reach)
    with pytest.raises(ConfigError) as refused:
        supervisor.start()
    said = str(refused.value)
    assert said.startswith(f"tool server mine listens on {address} and answers HTTP {status}")
    assert "demand the bearer token of AGENTFLOW_TOOL_TOKEN" in said and "\n" not in said


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_of_ones_own_that_refuses_is_started(reach, status):
    command = (sys.executable, "-c", OPEN_SERVER.replace("STATUS", str(status)))
    with Supervisor([ToolConfig(name="mine", command=command)], reach=reach) as supervisor:
        assert supervisor.pids["mine"]
