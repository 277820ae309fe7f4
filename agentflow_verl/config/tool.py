"""One tool server of ``agentflow.tools``."""

from __future__ import annotations

import re
import sys
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from agentflow_verl.config.base import ConfigModel, Count, Seconds

MIN_RESULT_CHARS = 100
_SERVER_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, "token"
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_PROTOCOL_HEADER = re.compile(
    r"accept|accept-encoding|connection|content-.*|host|last-event-id|mcp-.*|transfer-encoding",
    re.IGNORECASE,
)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ToolConfig(ConfigModel):
    """How one tool server is reached or started.

    With ``urls`` the server runs elsewhere; several URLs are replicas of one server. Without, it is
    embedded: the supervisor starts ``command`` with a port, followed by ``args``.
    """

    name: str
    """The server's name: its key under ``agentflow.tools``."""
    urls: tuple[str, ...] = ()
    command: tuple[str, ...] | None = None
    """Starts an embedded server. None is ``python -m tool_servers.<name>``."""
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    """Names of environment variables that an embedded server receives beside PATH, HOME, LANG and
    PYTHONPATH.
    """
    env_values: dict[str, SecretStr] = {}
    """Further variables of an embedded server, with their values; shown nowhere."""
    tools: dict[str, str] | None = None
    """The tools to offer, by the server's name for them, and what to call them here. A list keeps
    the server's names; None offers all.
    """
    timeout_s: Seconds = 30.0
    """For one call, in seconds."""
    concurrency: Count = 32
    """Calls in flight per process."""
    max_result_chars: int = Field(4000, ge=MIN_RESULT_CHARS, strict=True)
    """Characters of a result that may enter a prompt."""
    token_env: str | None = None
    """Name of the environment variable that holds the bearer token of a server elsewhere."""
    headers: dict[str, SecretStr] = {}
    """Further HTTP headers for a server elsewhere, such as an API key's; shown nowhere."""
    calls_per_s: float | None = Field(None, gt=0, strict=True)
    """Requests per second from one process. None is no limit."""
    cache_dir: str | None = Field(None, min_length=1)
    """Folder where results of cacheable tools are kept. None keeps none."""
    cacheable: bool | None = Field(None, strict=True)
    """Overrules what the server says of its tools."""

    @property
    def embedded(self) -> bool:
        """Whether the supervisor has to start this server."""
        return not self.urls

    def argv(self, port: int, host: str | None = None) -> list[str]:
        """The command line of an embedded server; port 0 lets it choose one, ``host`` is where it
        listens if not on loopback. It must not outlive its parent.
        """
        # This interpreter and not "python": the server needs the same environment.
        command = self.command or (sys.executable, "-m", f"tool_servers.{self.name}")
        where = ["--host", host] if host else []
        return [*command, "--port", str(port), *where, "--exit-with-parent", *self.args]

    def running_at(self, urls: tuple[str, ...], token: SecretStr | None = None) -> ToolConfig:
        """This server once it has been started: from then on it is like any server with URLs."""
        gone: dict[str, Any] = {"command": None, "args": (), "env": (), "env_values": {}}
        headers = {}
        if token is not None:
            headers["Authorization"] = SecretStr(f"Bearer {token.get_secret_value()}")
        return self.model_copy(update={**gone, "urls": urls, "headers": headers})

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not _SERVER_NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} cannot name a tool server: use letters, digits, '_', '-' and '.'"
            )
        return name

    @field_validator("tools", mode="before")
    @classmethod
    def _name_tools(cls, tools: Any) -> Any:
        """A list of names keeps them."""
        if isinstance(tools, (list, tuple)):
            return dict(zip(tools, tools, strict=True))
        return tools

    @field_validator("tools")
    @classmethod
    def _check_tools(cls, tools: dict[str, str] | None) -> dict[str, str] | None:
        if tools is not None and (not tools or len(set(tools.values())) < len(tools)):
            raise ValueError("name at least one tool, each only once, or leave tools out")
        return tools

    @field_validator("urls")
    @classmethod
    def _check_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not _is_usable(url):
                raise ValueError(
                    f"{url!r}: give the MCP endpoint, such as http://127.0.0.1:8000/mcp"
                )
            if urls.count(url) > 1:
                raise ValueError(f"{url!r} is listed twice")
        return urls

    @field_validator("command")
    @classmethod
    def _check_command(cls, command: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if command is not None and not command:
            raise ValueError("give at least the program, or leave command out")
        return command

    @field_validator("env", "token_env")
    @classmethod
    def _check_variables(cls, given: tuple[str, ...] | str | None) -> tuple[str, ...] | str | None:
        names = given or ()
        if isinstance(given, str):
            names = (given,)
        for name in names:
            if not _ENV_NAME.fullmatch(name):
                raise ValueError(f"{name!r}: give names of environment variables, not values")
        return given

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name) or _PROTOCOL_HEADER.fullmatch(name):
                raise ValueError(f"{name!r} cannot be set: the protocol's own headers are kept")
            if not _HEADER_VALUE.fullmatch(value.get_secret_value()):
                raise ValueError(f"the value of {name!r} is empty, or not printable ASCII")
        return headers

    @model_validator(mode="after")
    def _check_combination(self) -> ToolConfig:
        if self.urls and (self.command is not None or self.args or self.env or self.env_values):
            raise ValueError(
                "urls: a server with URLs is not started here: drop command, args and env"
            )
        if self.token_env is not None and not self.urls:
            raise ValueError(
                "token_env: a server that is started here listens on loopback only; drop it"
            )
        if self.headers and not self.urls:
            raise ValueError("headers: a server that is started here reads none; drop them")
        if self.token_env is not None and "authorization" in map(str.lower, self.headers):
            raise ValueError("token_env and a header Authorization: give one of them")
        if self.cacheable and self.cache_dir is None:
            raise ValueError("cacheable=True needs a cache_dir: name a folder, or leave it out")
        return self


def _is_usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # reading the port raises it, too
        return False
