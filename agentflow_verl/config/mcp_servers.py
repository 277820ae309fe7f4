"""Tool servers from an ``mcpServers`` JSON file, as MCP's desktop clients and editors keep it.

Every key of a server is used, or known to be of no matter here (approvals, looks), or refused by
its name: none is passed over in silence.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentflow_verl.config.base import nearest
from agentflow_verl.core.errors import ConfigError

COMMAND_KEYS = ("command", "args", "env", "cwd")
URL_KEYS = ("url", "httpUrl", "serverUrl")  # Gemini CLI's name, Windsurf's name
TYPE_KEYS = ("type", "transport", "transportType")
OTHER_KEYS = ("headers", "disabled", "enabled", "includeTools", "timeout")
# Who may call a tool without being asked, and what a client shows of a server.
NO_MATTER = (
    "alwaysAllow", "autoApprove", "autoStart", "description", "dev", "displayName", "gallery",
    "icon", "icons", "name", "note", "trust", "version", "watchPaths",
)  # fmt: skip
USED_KEYS = (*COMMAND_KEYS, *URL_KEYS, *TYPE_KEYS, *OTHER_KEYS)
STREAMABLE_HTTP = ("http", "streamablehttp")
# Clients count a time limit in seconds (Cline) or in milliseconds (Gemini CLI).
SHORTEST_IN_MS = 1_000
# "${NAME}" and "${NAME:-default}" (Claude Code), "${env:NAME}" (VS Code).
_VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
# "${input:KEY}", "${command:NAME}"
_EDITORS_OWN = re.compile(r"\$\{(?!env:)[A-Za-z]+:(?!-)[^}]*\}")
_BEARER = re.compile(r"Bearer \$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)\}")


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
        if server.get("disabled") is not True and server.get("enabled") is not False:
            nodes[name] = _to_node(name, server, where)
    return nodes


def _to_node(name: str, server: Mapping[str, Any], where: str) -> dict[str, Any]:
    _check_keys(server, where)
    urls = [key for key in URL_KEYS if server.get(key) is not None]
    command = server.get("command")
    if len(urls) + (command is not None) != 1:
        raise ConfigError(f"{where} needs either 'command' or 'url'")
    node: dict[str, Any] = {}
    if server.get("includeTools"):
        node["tools"] = _texts(server, "includeTools", where)
    if server.get("timeout") is not None:
        node["timeout_s"] = _seconds(server["timeout"], where)
    if command is not None:
        _check_type(server, ("stdio",), where)
        return {**node, **_started(name, server, where)}
    _check_type(server, STREAMABLE_HTTP, where)
    for key in COMMAND_KEYS:
        if server.get(key):
            raise ConfigError(f"{where}: {key!r} belongs to a server with 'command': drop it")
    url = _text(server, urls[0], where)
    headers = _object(server, "headers", where)
    return {**node, "urls": [url], **_access(headers, where)}


def _started(name: str, server: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A server that is started by its command."""
    if server.get("headers"):
        raise ConfigError(f"{where}: 'headers' belong to a server with 'url': drop them")
    command = [_text(server, "command", where), *_texts(server, "args", where)]
    values: dict[str, str] = {}
    passed_on: list[str] = []
    for variable, value in _object(server, "env", where).items():
        named = _VARIABLE.fullmatch(str(value))
        if named and named[1] == variable and named[2] is None:
            passed_on.append(variable)
        else:
            values[variable] = _expanded(value, f"{where}: env {variable}")
    own = ["--name", name]
    if server.get("cwd") is not None:
        folder = Path(_text(server, "cwd", where)).expanduser()
        if not folder.is_dir():
            raise ConfigError(f"{where}: cwd: there is no folder {folder}")
        own += ["--cwd", str(folder.absolute())]
    return {
        "command": [sys.executable, "-m", "tool_servers.stdio"],
        "args": [*own, "--", *command],
        "env": passed_on,
        "env_values": values,
    }


def _access(headers: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A bearer token that stands in the environment is read there when it is needed; any other
    header is part of the configuration, and shown nowhere.
    """
    node: dict[str, Any] = {}
    values = {}
    for header, value in headers.items():
        bearer = _BEARER.fullmatch(str(value))
        if bearer and header.lower() == "authorization":
            node["token_env"] = bearer[1]
        else:
            values[header] = _expanded(value, f"{where}: header {header}")
    return {**node, "headers": values}


def _check_keys(server: Mapping[str, Any], where: str) -> None:
    for key in server:
        if key in USED_KEYS or key in NO_MATTER:
            continue
        advice = nearest(key, USED_KEYS)
        if key in ("excludeTools", "disabledTools"):
            advice = "; name the tools to offer, as 'includeTools'"
        if key == "envFile":
            advice = "; write its variables under 'env'"
        raise ConfigError(f"{where}: {key!r} is not supported{advice}")


def _check_type(server: Mapping[str, Any], accepted: tuple[str, ...], where: str) -> None:
    """The stated transport is the one that the server's other keys describe."""
    for key in TYPE_KEYS:
        stated = server.get(key)
        if stated is None:
            continue
        plain = re.sub("[-_ ]", "", str(stated)).lower()
        if plain == "sse":
            raise ConfigError(
                f"{where} speaks the transport 'sse' of 2024: give its streamable HTTP endpoint"
            )
        if plain not in accepted:
            needed = "'stdio'" if "stdio" in accepted else "'http' or 'streamable-http'"
            raise ConfigError(f"{where}: {key} is {stated!r}: with these keys it is {needed}")


def _seconds(timeout: Any, where: str) -> float:
    if not isinstance(timeout, (int, float)) or isinstance(timeout, bool) or timeout <= 0:
        raise ConfigError(f"{where}: timeout is {timeout!r}: give a number of seconds")
    return float(timeout if timeout < SHORTEST_IN_MS else timeout / 1_000)


def _object(server: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = server.get(key)
    if value is None:
        return {}
    if not _is_object(value):
        raise ConfigError(f"{where}: {key!r} must be an object of texts")
    found: Mapping[str, Any] = value
    return found


def _texts(server: Mapping[str, Any], key: str, where: str) -> list[str]:
    value = server.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise ConfigError(f"{where}: {key!r} must be a list of texts")
    return [_expanded(item, f"{where}: {key}") for item in value]


def _text(server: Mapping[str, Any], key: str, where: str) -> str:
    if not isinstance(server[key], str) or not server[key]:
        raise ConfigError(f"{where}: {key!r} must be a text")
    return _expanded(server[key], f"{where}: {key}")


def _expanded(value: Any, where: str) -> str:
    """Text with the variables of the environment put in.

    Raises:
        ConfigError: one that is not set, or what only an editor can put in (``${input:KEY}``).
    """
    if not isinstance(value, (str, int, float)):
        raise ConfigError(f"{where}: {value!r} is not a text")

    def look_up(variable: re.Match[str]) -> str:
        found = os.environ.get(variable[1], variable[2])
        if found is None:
            raise ConfigError(f"{where}: {variable[1]} is not set: export {variable[1]}=VALUE")
        return found

    left = _EDITORS_OWN.search(str(value))
    if left:
        raise ConfigError(
            f"{where}: {left[0]} is filled in by an editor: write ${{VARIABLE}}, and export it"
        )
    return _VARIABLE.sub(look_up, str(value))


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)
