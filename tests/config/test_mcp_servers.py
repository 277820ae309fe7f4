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


def test_a_server_that_is_not_enabled_is_left_out(write):
    path = write({"mcpServers": {"web": WEB, "files": {**FILES, "enabled": False}}})
    assert set(read_mcp_servers(path)) == {"web"}


@pytest.mark.parametrize(
    "keys",
    [
        {"type": "http", "url": "URL"},
        {"type": "streamable-http", "url": "URL"},
        {"type": "streamableHttp", "url": "URL"},
        {"transport": "streamable_http", "url": "URL"},
        {"httpUrl": "URL"},
        {"serverUrl": "URL"},
        {"url": "URL", "autoApprove": ["search"], "alwaysAllow": [], "disabled": False},
        {"url": "URL", "command": None, "description": "the web", "trust": True},
    ],
)
def test_every_name_of_a_url_and_its_transport_is_read(write, keys):
    server = {key: WEB["url"] if value == "URL" else value for key, value in keys.items()}
    tool = load({"mcp_servers": write({"mcpServers": {"web": server}})}).tools["web"]
    assert tool.urls == ("https://mcp.example/mcp",)


def test_headers_are_sent_and_show_nowhere(write, monkeypatch):
    monkeypatch.setenv("WEB_KEY", "s3cr3t")
    headers = {"X-Api-Key": "${WEB_KEY}", "Authorization": "Token abc", "X-Team": "a b"}
    config = load({"mcp_servers": write({"mcpServers": {"web": {**WEB, "headers": headers}}})})
    sent = {name: value.get_secret_value() for name, value in config.tools["web"].headers.items()}
    assert sent == {"X-Api-Key": "s3cr3t", "Authorization": "Token abc", "X-Team": "a b"}
    shown = repr(config) + str(config.model_dump()) + config.model_dump_json()
    assert "s3cr3t" not in shown and "Token abc" not in shown


def test_variables_of_the_environment_are_put_in_wherever_they_stand(write, monkeypatch):
    monkeypatch.setenv("DATA", "/data")
    monkeypatch.setenv("HOST", "mcp.example")
    local = {"command": "${SERVER:-npx}", "args": ["${env:DATA}/a", 3], "env": {"A": "x${DATA}"}}
    remote = {"url": "https://${HOST}/mcp"}
    tools = load({"mcp_servers": write({"mcpServers": {"a": local, "b": remote}})}).tools
    assert tools["a"].argv(0)[-3:] == ["npx", "/data/a", "3"]
    assert tools["a"].env_values["A"].get_secret_value() == "x/data"
    assert tools["b"].urls == ("https://mcp.example/mcp",)


def test_tools_and_time_limit_of_a_server_are_taken(write):
    servers = {
        "a": {**FILES, "timeout": 60, "includeTools": ["read_file"]},
        "b": {**WEB, "timeout": 600_000},
    }
    tools = load({"mcp_servers": write({"mcpServers": servers})}).tools
    assert (tools["a"].timeout_s, tools["b"].timeout_s) == (60.0, 600.0)
    assert tools["a"].tools == {"read_file": "read_file"}


def test_a_server_starts_in_its_folder(write, tmp_path):
    path = write({"mcpServers": {"a": {**FILES, "cwd": str(tmp_path)}}})
    start = load({"mcp_servers": path}).tools["a"].argv(0)
    assert start[start.index("--cwd") + 1] == str(tmp_path)
    assert start.index("--cwd") < start.index("--")


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
        ({"mcpServers": {"a": {**WEB, "headers": {"X-Key": "${NO_KEY}"}}}}, "export NO_KEY=VALUE"),
        ({"mcpServers": {"a": {**WEB, "headers": {"Host": "b"}}}}, "'Host' cannot be set"),
        ({"mcpServers": {"a": {**WEB, "headers": "X-Key: b"}}}, "'headers' must be an object"),
        ({"mcpServers": {"a": {**FILES, "headers": {"X-Key": "b"}}}}, "'headers' belong to"),
        ({"mcpServers": {"a": {**FILES, "env": {"A": "${NO_B}"}}}}, "env A: NO_B is not set"),
        ({"mcpServers": {"a": {**FILES, "env": {"A": "${input:key}"}}}}, "filled in by an editor"),
        ({"mcpServers": {"a": {**FILES, "env": {"A": ["b"]}}}}, "env A: .* is not a text"),
        ({"mcpServers": {"a": {**FILES, "args": "-y server"}}}, "'args' must be a list"),
        ({"mcpServers": {"a": {**FILES, "cwd": "/no/such"}}}, "there is no folder /no/such"),
        ({"mcpServers": {"a": {**FILES, "type": "http"}}}, "type is 'http': with these keys"),
        ({"mcpServers": {"a": {**WEB, "type": "stdio"}}}, "type is 'stdio': with these keys"),
        ({"mcpServers": {"a": {**WEB, "type": "websocket"}}}, "type is 'websocket'"),
        ({"mcpServers": {"a": {**WEB, "args": ["-y"]}}}, "'args' belongs to a server with"),
        ({"mcpServers": {"a": {**FILES, "timeout": "60s"}}}, "give a number of seconds"),
        (
            {"mcpServers": {"a": {**FILES, "excludeTools": ["b"]}}},
            "'excludeTools' .* 'includeTools'",
        ),
        ({"mcpServers": {"a": {**FILES, "envFile": ".env"}}}, "'envFile' is not supported"),
        ({"mcpServers": {"a": {**FILES, "commmand": "b"}}}, "did you mean 'command'"),
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
