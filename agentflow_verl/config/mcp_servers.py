"""Tool servers from an ``mcpServers`` JSON file, as MCP's desktop clients and editors keep it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentflow_verl.core.errors import ConfigError

# "${NAME}", or "${env:NAME}" as VS Code writes it.
_BEARER = re.compile(r"Bearer \$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)\}")
_VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)\}")


def read_mcp_servers(path: str) -> dict[str, dict[str, Any]]:
    """The servers of a file as nodes of ``agentflow.tools``. One that is started by a command is
    started behind ``tool_servers.stdio``. Raises ConfigError naming the file and the server.
    """
    try:
        # Editors on Windows may write a byte order mark.
        content = json.loads(Path(path).expanduser().read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"agentflow.mcp_servers: cannot read {path}: {error}") from None
    servers = None
    if _is_object(content):  # VS Code calls them "servers"
        servers = content.get("mcpServers", content.get("servers"))
    if not _is_object(servers) or not servers:
        raise ConfigError(f"agentflow.mcp_servers: {path} has no object 'mcpServers' with servers")
    nodes: dict[str, dict[str, Any]] = {}
    for name, server in servers.items():
        where = f"agentflow.mcp_servers: {path}: server {name!r}"
        if not _is_object(server):
            raise ConfigError(f"{where} is not an object")
        if server.get("disabled") is not True:
            nodes[name] = _to_node(name, server, where)
    return nodes


def _to_node(name: str, server: Mapping[str, Any], where: str) -> dict[str, Any]:
    url, command = server.get("url"), server.get("command")
    if isinstance(url, str) and command is None:
        if server.get("type") == "sse":
            raise ConfigError(
                f"{where} speaks the transport 'sse' of 2024: give its streamable HTTP endpoint"
            )
        return {"urls": [url], "token_env": _token_env(server.get("headers") or {}, where)}
    if not isinstance(command, str) or url is not None:
        raise ConfigError(f"{where} needs either 'command' or 'url'")
    arguments = list(map(str, server.get("args") or []))
    values: dict[str, str] = {}
    passed_on: list[str] = []
    for variable, value in (server.get("env") or {}).items():
        named = _VARIABLE.fullmatch(str(value))
        if named and named[1] == variable:
            passed_on.append(variable)
        elif named:
            raise ConfigError(f"{where}: env {variable}: set {variable} itself in the environment")
        else:
            values[variable] = str(value)
    return {
        "command": [sys.executable, "-m", "tool_servers.stdio"],
        "args": ["--name", name, "--", command, *arguments],
        "env": passed_on,
        "env_values": values,
    }


def _token_env(headers: Mapping[str, Any], where: str) -> str | None:
    """The environment variable that holds the bearer token; a token itself has no place in a
    configuration that is written to logs.
    """
    if not headers:
        return None
    ((header, value), *others) = headers.items()
    bearer = _BEARER.fullmatch(str(value))
    if others or header.lower() != "authorization" or bearer is None:
        raise ConfigError(
            f'{where}: of \'headers\' only "Authorization": "Bearer ${{VARIABLE}}" is supported,'
            " with the token in an environment variable"
        )
    return bearer[1]


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)
