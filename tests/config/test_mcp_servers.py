"""An ``mcpServers`` file as people have it becomes tool servers; what cannot be is one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from agentflow_verl.config.mcp_servers import read_mcp_servers
from agentflow_verl.config.schema import load
from agentflow_verl.core.errors import ConfigError

FILES = {"command": "npx", "args": ["-y", "server-filesystem", "/data"], "env": {"LEVEL": "info"}}
WEB = {"type": "http", "url": "https://mcp.example/mcp"}


@pytest.fixture
def write(tmp_path: Path):
    def written(content: Any) -> str:
        path = tmp_path / "mcp.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return written


def test_servers_of_a_file_stand_beside_those_of_the_configuration(write):
    path = write({"mcpServers": {"files": FILES, "web": WEB}})
    own = {"web": {"urls": ["http://127.0.0.1:1/mcp"]}}
    tools = load({"mcp_servers": path, "tools": own}).tools
    assert set(tools) == {"files", "web"}
    assert tools["web"].urls == ("http://127.0.0.1:1/mcp",)
    start = tools["files"].argv(0)
    assert start[:3] == [sys.executable, "-m", "tool_servers.stdio"]
    assert start[start.index("--") :] == ["--", "npx", "-y", "server-filesystem", "/data"]
    assert tools["files"].env_values["LEVEL"].get_secret_value() == "info"


def test_file_alone_is_enough_and_a_byte_order_mark_does_not_matter(write):
    path = write("\ufeff" + json.dumps({"servers": {"web": WEB}}))
    assert load({"mcp_servers": path}).tools["web"].urls == ("https://mcp.example/mcp",)


def test_values_of_variables_show_nowhere(write):
    config = load(
        {"mcp_servers": write({"mcpServers": {"a": {**FILES, "env": {"KEY": "s3cr3t"}}}})}
    )
    assert "s3cr3t" not in repr(config) + str(config.model_dump()) + config.model_dump_json()


def test_variables_of_the_environment_are_passed_on_by_name(write):
    server = {**FILES, "env": {"KEY": "${KEY}", "OTHER": "${env:OTHER}"}}
    assert load({"mcp_servers": write({"mcpServers": {"a": server}})}).tools["a"].env == (
        "KEY",
        "OTHER",
    )


def test_token_comes_from_the_environment(write):
    server = {**WEB, "headers": {"Authorization": "Bearer ${WEB_TOKEN}"}}
    config = load({"mcp_servers": write({"mcpServers": {"web": server}})})
    assert config.tools["web"].token_env == "WEB_TOKEN"


def test_disabled_server_is_left_out(write):
    path = write({"mcpServers": {"web": WEB, "files": {**FILES, "disabled": True}}})
    assert set(read_mcp_servers(path)) == {"web"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot read"),
        ([], "no object 'mcpServers'"),
        ({"mcpServers": {}}, "no object 'mcpServers'"),
        ({"mcpServers": {"a": []}}, "server 'a' is not an object"),
        ({"mcpServers": {"a": {}}}, "server 'a' needs either"),
        ({"mcpServers": {"a": {**FILES, **WEB}}}, "server 'a' needs either"),
        ({"mcpServers": {"a": {"type": "sse", "url": "http://x/sse"}}}, "streamable HTTP"),
        ({"mcpServers": {"a": {**WEB, "headers": {"Authorization": "Bearer abc"}}}}, "headers"),
        ({"mcpServers": {"a": {**WEB, "headers": {"X-Key": "${KEY}"}}}}, "headers"),
        ({"mcpServers": {"a": {**FILES, "env": {"A": "${B}"}}}}, "env A"),
        ({"mcpServers": {"my server": WEB}}, "cannot name a tool server"),
    ],
)
def test_what_cannot_be_used_is_one_line(write, content, said):
    with pytest.raises(ConfigError, match=said) as raised:
        load({"mcp_servers": write(content)})
    assert "\n" not in str(raised.value)


def test_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot read .*missing.json"):
        load({"mcp_servers": str(tmp_path / "missing.json")})
