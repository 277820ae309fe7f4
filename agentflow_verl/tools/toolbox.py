"""ToolBox: every tool of every configured server under one roof. This is what the flow calls.

Each process that runs trajectories opens one ToolBox on its event loop and shares it between all of
them; no state of a trajectory lives here.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

from agentflow_verl.config.base import nearest
from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.disk_cache import ResultCache
from agentflow_verl.core.errors import ConfigError, InfraError, MalformedOutput, OutOfTime
from agentflow_verl.tools.mcp.client import McpClient
from agentflow_verl.tools.mcp.protocol import is_plain
from agentflow_verl.tools.schema import ArgumentCheck
from agentflow_verl.tools.session import TrajectoryState
from agentflow_verl.tools.tool_client import ToolServer, wait_all
from agentflow_verl.tools.types import ToolResult, ToolSpec

OPEN_TIMEOUT_S = 30.0
_ASK_AGAIN_S = 0.5
_MAX_NAME_WORDS = 12
_WORD = re.compile(r"[^\W_]+")
_BETWEEN = re.compile(r"[\W_]+")
# Words before a tool's name in a model's plan: "I will use the …".
_INTRODUCTION = re.compile(
    r"^(?:(?:i|we|will|should|use|using|call|run|invoke|choose|select|the|tool|function)\s+)+", re.I
)
# "functions.", "mcp__": as short as it can be, since a name may itself hold an underscore.
_NAMESPACE = re.compile(r"[\w\-]{1,60}?(?:\.|::|/|__)")


class ToolBox:
    """Made by ``await ToolBox.open(configs)``; also an asynchronous context manager that closes
    itself.

    ``specs`` holds the tools in the order of the configuration, within a server in the server's own
    order.
    """

    def __init__(
        self,
        client: McpClient | None,
        homes: Sequence[tuple[ToolSpec, ToolServer]],
        caches: Iterable[ResultCache] = (),
    ) -> None:
        self._client = client
        self._caches = tuple(caches)
        self.specs: tuple[ToolSpec, ...] = tuple(spec for spec, _ in homes)
        self._specs: dict[str, ToolSpec] = {}
        self._servers: dict[str, ToolServer] = {}
        self._checks: dict[str, ArgumentCheck] = {}
        for spec, server in homes:
            self._specs[spec.name] = spec
            self._servers[spec.name] = server
            self._checks[spec.name] = ArgumentCheck(spec.name, spec.parameters)
        self._endings: set[asyncio.Future[None]] = set()
        self._by_key: dict[str, ToolSpec] = {}
        for spec in self.specs:
            other = self._by_key.setdefault(tool_key(spec.name), spec)
            if other.name == spec.name and other is not spec:
                raise ConfigError(
                    f"tool {spec.name} is listed by both {self._servers_of(homes, spec.name)}: "
                    "rename one of them with agentflow.tools.NAME.tools"
                )
            if other is not spec:
                raise ConfigError(
                    f"tools {other.name} and {spec.name} differ only in case and separators"
                )

    @classmethod
    async def open(
        cls,
        configs: Sequence[ToolConfig],
        session: aiohttp.ClientSession | None = None,
        timeout_s: float = OPEN_TIMEOUT_S,
        patience_s: float = 0.0,
    ) -> ToolBox:
        """List the tools of all servers, within ``timeout_s`` seconds.

        A server that cannot be reached is asked again for ``patience_s`` more: one of a
        Supervisor's may be starting again. ``session`` is an HTTP session to share; without one the
        ToolBox keeps its own. Raises ``ConfigError`` that names the server and URL where one cannot
        be reached, where replicas differ, where two tools share a name, where a token or a cache
        folder is missing, or where a server is embedded but not yet started.
        """
        for config in configs:
            if config.embedded:
                raise ConfigError(
                    f"tool server {config.name} has no URL: start it with a Supervisor first"
                )
        client = McpClient(session, _headers(configs))
        caches: dict[str, ResultCache] = {}
        try:
            servers = []
            for config in configs:
                folder = config.cache_dir
                if folder is not None and folder not in caches:
                    caches[folder] = ResultCache(Path(folder))
                servers.append(ToolServer(config, client, caches.get(folder or "")))
            patience, deadline = Deadline.after(patience_s), Deadline.after(timeout_s + patience_s)
            listed = await wait_all(_specs_of(server, deadline, patience) for server in servers)
            homes: list[tuple[ToolSpec, ToolServer]] = []
            for server, specs in zip(servers, listed, strict=True):
                homes += [(spec, server) for spec in specs]
            return cls(client, homes, caches.values())
        except BaseException:  # a cancellation, too, must leave no connection open
            await wait_all([client.close(), *(cache.close() for cache in caches.values())])
            raise

    def resolve(self, name: str) -> ToolSpec | None:
        """The tool that a model's text names; ``None`` if there is none.

        Case, spaces, hyphens and other separators do not matter. The name may stand behind words
        that introduce it ("the", "use") or the namespace that it is in ("functions."), and before
        words that explain it ("python_coder to multiply", "python_coder tool").
        """
        exact = self._by_key.get(tool_key(name))
        if exact is not None:
            return exact
        # Namespaces come off one by one, from the left: "tools/functions.python_coder".
        text = _INTRODUCTION.sub("", name.strip())
        found = self._named_first(text)
        while found is None and (namespace := _NAMESPACE.match(text)):
            text = text[namespace.end() :]
            found = self._named_first(text)
        return found

    def _named_first(self, text: str) -> ToolSpec | None:
        """The tool with whose name ``text`` starts; of several the one with the longest name."""
        words = _WORD.findall(text)[:_MAX_NAME_WORDS]
        for count in range(len(words), 0, -1):
            found = self._by_key.get(tool_key("".join(words[:count])))
            if found is not None:
                return found
        return None

    async def call(
        self,
        name: str,
        arguments: dict[str, Any],
        deadline: Deadline,
        state: TrajectoryState | None = None,
    ) -> ToolResult:
        """Call the tool of this exact name; nothing is sent unless the arguments satisfy its
        schema.

        ``state`` is what servers keep for the trajectory that calls; a tool finds what earlier
        calls with it left. Raises ``MalformedOutput`` (unknown tool, wrong arguments),
        ``OutOfTime`` (the deadline), or ``InfraError`` (the server failed, retries included). An
        error of the tool itself is a result with ``is_error``.
        """
        server = self._servers.get(name)
        if server is None:
            raise MalformedOutput(
                f"no tool {name[:80]!r}; the tools are {', '.join(self._servers) or 'none'}"
            )
        self._checks[name](arguments)
        if deadline.remaining() <= 0:
            raise OutOfTime(f"tool {name}: called after the deadline")
        return await server.call(self._specs[name], arguments, deadline, state)

    def end(self, state: TrajectoryState) -> None:
        """The trajectory is over: servers drop what they keep for it. Returns at once."""
        if not state.at:
            return
        # Each server once, however many tools it has.
        for server in dict.fromkeys(self._servers.values()):
            if server.config.name in state.at:
                # The event loop keeps only weak references to tasks, so this set keeps them.
                ending = asyncio.ensure_future(server.end(state))
                self._endings.add(ending)
                ending.add_done_callback(self._endings.discard)

    async def close(self) -> None:
        await wait_all(self._endings)
        closing = [cache.close() for cache in self._caches]
        if self._client:
            closing.append(self._client.close())
        await wait_all(closing)

    async def __aenter__(self) -> ToolBox:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @staticmethod
    def _servers_of(homes: Sequence[tuple[ToolSpec, ToolServer]], name: str) -> str:
        return " and ".join(server.config.name for spec, server in homes if spec.name == name)


def _headers(configs: Sequence[ToolConfig]) -> dict[str, dict[str, str]]:
    """The headers of each URL that its configuration sets: its bearer token (RFC 6750), its own."""
    headers: dict[str, dict[str, str]] = {}
    for config in configs:
        own = {name: value.get_secret_value() for name, value in config.headers.items()}
        token = os.environ.get(config.token_env or "", "").strip()
        if config.token_env and not is_plain(token):
            variable = f"the environment variable {config.token_env}"
            raise ConfigError(f"tool server {config.name}: {variable} holds no usable token")
        if token:
            own["Authorization"] = f"Bearer {token}"
        headers.update(dict.fromkeys(config.urls, own))
    return headers


async def _specs_of(
    server: ToolServer, deadline: Deadline, patience: Deadline
) -> tuple[ToolSpec, ...]:
    while True:
        try:
            listings = await server.list_tools(deadline)
            break
        except (InfraError, OutOfTime) as error:
            if patience.remaining() <= 0:
                raise ConfigError(
                    f"tool server {server.config.name} cannot be reached: {error}"
                ) from error
        await asyncio.sleep(_ASK_AGAIN_S)
    (url, specs), *replicas = listings.items()
    for other_url, others in replicas:
        if sorted(specs, key=_by_name) != sorted(others, key=_by_name):
            raise ConfigError(
                f"tool server {server.config.name}: {url} and {other_url} differ in tools or"
                " version"
            )
    if not specs:
        raise ConfigError(f"tool server {server.config.name} at {url} lists no tools")
    return _chosen(specs, server.config)


def _chosen(specs: tuple[ToolSpec, ...], config: ToolConfig) -> tuple[ToolSpec, ...]:
    """The tools that the configuration names, in its order and with its names."""
    if config.tools is None:
        return specs
    listed = {spec.name: spec for spec in specs}
    chosen: list[ToolSpec] = []
    for name, shown_as in config.tools.items():
        if name not in listed:
            raise ConfigError(
                f"agentflow.tools.{config.name}.tools: the server has no tool"
                f" {name!r}{nearest(name, listed)}"
            )
        renamed_from = ""
        if shown_as != name:
            renamed_from = name
        chosen.append(replace(listed[name], name=shown_as, renamed_from=renamed_from))
    return tuple(chosen)


def _by_name(spec: ToolSpec) -> str:
    return spec.name


def tool_key(name: str) -> str:
    """What is the same for all spellings of a tool's name: its letters and digits."""
    return _BETWEEN.sub("", name).casefold()
