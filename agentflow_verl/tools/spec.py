"""What a tool is, how one is configured, what a call gives back. Frozen records, checked when they are made."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from agentflow_verl.errors import ConfigError

MIN_RESULT_CHARS = 100
_SERVER_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class ToolSpec:
    """One tool as its server lists it.

    ``parameters`` is the JSON schema of the arguments, ``notes`` the usage notes that prompts show
    (empty where the server gives none), ``pure`` whether equal arguments give an equal result while the server lives.
    ``repeatable`` is false where the server says that a call changes something and a second one would again
    (``readOnlyHint: false`` without ``idempotentHint``). ``server`` is the name and version it gives itself,
    ``edition`` its word for everything else that shapes its answers, such as the digest of an index.
    ``keeps_state`` is true where calls that name their trajectory find what its earlier ones left.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    notes: str = ""
    pure: bool = False
    repeatable: bool = True
    server: str = ""
    edition: str = ""
    keeps_state: bool = False


@dataclass(frozen=True)
class ToolConfig:
    """One tool server of the list ``agentflow.tools``.

    With ``urls`` the server runs elsewhere; several URLs are replicas of one server. Without, it is embedded:
    the supervisor starts ``command`` (default ``python -m tool_servers.<name>``) with a port, followed by ``args``.

    ``timeout_s`` limits one call in seconds, ``concurrency`` the calls in flight and ``calls_per_s`` the requests a
    second from this process (None: no such limit), ``max_result_chars`` the text a result may put into a prompt.
    ``cache_dir`` is a folder where results of pure tools are kept (None: no cache); ``pure`` overrules what the server
    says of its tools. ``env`` names the environment variables that an embedded server receives beside PATH, HOME,
    LANG and PYTHONPATH; ``token_env`` the one that holds the bearer token of a server elsewhere.

    Raises ``ConfigError`` where a value is out of range.
    """

    name: str
    urls: tuple[str, ...] = ()
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] = ()
    timeout_s: float = 30.0
    concurrency: int = 32
    max_result_chars: int = 4000
    env: tuple[str, ...] = ()
    token_env: str | None = None
    calls_per_s: float | None = None
    cache_dir: str | None = None
    pure: bool | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _SERVER_NAME.fullmatch(self.name):
            raise ConfigError(f"tool server name {self.name!r}: use letters, digits, '_', '-' and '.'")
        for key in ("urls", "command", "args", "env"):
            self._check_strings(key, getattr(self, key))
        for url in self.urls:
            self._check_url(url)
        if self.urls and (self.command is not None or self.args or self.env):
            raise self._wrong("urls", self.urls, "a server with URLs is not started here: drop command, args and env")
        if self.command is not None and not self.command:
            raise self._wrong("command", self.command, "give at least the program, or leave it out")
        for key, name in (*(("env", name) for name in self.env), ("token_env", self.token_env)):
            if name is not None and not (isinstance(name, str) and _ENV_NAME.fullmatch(name)):
                raise self._wrong(key, name, "give names of environment variables, not values")
        if self.token_env is not None and not self.urls:
            raise self._wrong("token_env", self.token_env, "a server that is started here listens on loopback only")
        if not _is_positive(self.timeout_s):
            raise self._wrong("timeout_s", self.timeout_s, "give a number of seconds above 0")
        if self.calls_per_s is not None and not _is_positive(self.calls_per_s):
            raise self._wrong("calls_per_s", self.calls_per_s, "give a number above 0, or leave it out")
        if self.cache_dir is not None and not (isinstance(self.cache_dir, str) and self.cache_dir):
            raise self._wrong("cache_dir", self.cache_dir, "give a folder, or leave it out")
        if self.pure is not None and not isinstance(self.pure, bool) or self.pure and self.cache_dir is None:
            raise self._wrong("pure", self.pure, "give true together with a cache_dir, false, or leave it out")
        if not _is_int(self.concurrency) or self.concurrency < 1:
            raise self._wrong("concurrency", self.concurrency, "give a whole number of at least 1")
        if not _is_int(self.max_result_chars) or self.max_result_chars < MIN_RESULT_CHARS:
            raise self._wrong(
                "max_result_chars", self.max_result_chars, f"give a whole number of at least {MIN_RESULT_CHARS}"
            )

    @property
    def embedded(self) -> bool:
        """Whether the supervisor has to start this server."""
        return not self.urls

    def argv(self, port: int) -> list[str]:
        """The command line of an embedded server; port 0 lets it choose one. It must not outlive its parent."""
        command = self.command or (sys.executable, "-m", f"tool_servers.{self.name}")
        return [*command, "--port", str(port), "--exit-with-parent", *self.args]

    def _check_strings(self, key: str, value: Any) -> None:
        if value is None and key == "command":
            return
        if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
            raise self._wrong(key, value, "give a tuple of strings")

    def _check_url(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise self._wrong("urls", url, "give the MCP endpoint, such as http://127.0.0.1:8000/mcp")
        if self.urls.count(url) > 1:
            raise self._wrong("urls", url, "listed twice")

    def _wrong(self, key: str, value: Any, advice: str) -> ConfigError:
        return ConfigError(f"agentflow.tools, server {self.name}: {key}={value!r}: {advice}")


@dataclass(frozen=True)
class ToolResult:
    """What a tool answered, an error inside its contract (``is_error``) included.

    ``truncated`` says that text is missing, ``seconds`` is the time from the call to the answer with waiting
    and retries, ``attempts`` how many requests it took (0: from the cache). ``state_kept`` is the server's word that the
    trajectory's next call will find what this one left.
    """

    tool: str
    text: str
    is_error: bool = False
    truncated: bool = False
    seconds: float = 0.0
    attempts: int = 1
    state_kept: bool = False


def cut(text: str, limit: int) -> str:
    """``text`` in at most ``limit`` characters, with a visible mark where some were cut (limit >= 100)."""
    if len(text) <= limit:
        return text
    longest_mark = _mark(len(text))
    head = text[: limit - len(longest_mark)]
    return head + _mark(len(text) - len(head))


def _mark(count: int) -> str:
    return f"\n[… {count} characters cut]"


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
