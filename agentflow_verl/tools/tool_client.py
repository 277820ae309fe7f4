"""One configured tool server as its client sees it: calls with retries, the cache of results, what
the server keeps for a trajectory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable
from dataclasses import asdict, replace
from typing import Any, TypeVar

from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.disk_cache import ResultCache, digest_of
from agentflow_verl.core.errors import InfraError, OutOfTime
from agentflow_verl.core.retry import RetryPolicy
from agentflow_verl.core.server_pool import ServerPool
from agentflow_verl.core.single_flight import SingleFlight
from agentflow_verl.tools.mcp.client import McpClient
from agentflow_verl.tools.session import Kept, TrajectoryState
from agentflow_verl.tools.truncation import truncate
from agentflow_verl.tools.types import ToolResult, ToolSpec

RETRY = RetryPolicy(attempts=3)
END_TIMEOUT_S = 2.0

T = TypeVar("T")

logger = logging.getLogger(__name__)


async def wait_all(work: Iterable[Awaitable[T]]) -> list[T]:
    """Every result in order, or the first failure, but only once all have ended: nothing is left
    running.
    """
    ended = await asyncio.gather(*work, return_exceptions=True)
    results: list[T] = []
    for result in ended:
        if isinstance(result, BaseException):
            raise result
        results.append(result)
    return results


class ToolServer:
    """The replicas of one server, seen from this process."""

    def __init__(
        self, config: ToolConfig, client: McpClient, cache: ResultCache | None = None
    ) -> None:
        self.config = config
        self._client = client
        self._cache = cache
        self._pool = ServerPool(config.urls, config.concurrency, RETRY, config.calls_per_s)
        self._homes: dict[str, str] = {}
        # Keeps nothing of its own: what has ended is in the cache.
        self._equal_calls = SingleFlight[ToolResult](capacity=0, is_hang=self._pool.is_hang)

    async def list_tools(self, deadline: Deadline) -> dict[str, tuple[ToolSpec, ...]]:
        """The tools by URL. Raises ``InfraError`` naming the first that cannot be reached."""
        listings = await wait_all(
            self._client.list_tools(url, deadline) for url in self.config.urls
        )
        return dict(zip(self.config.urls, listings, strict=True))

    async def call(
        self,
        spec: ToolSpec,
        arguments: dict[str, Any],
        deadline: Deadline,
        state: TrajectoryState | None = None,
    ) -> ToolResult:
        """Call a tool: from the cache if it is cacheable, else with up to three attempts where the
        server fails.

        With ``state``, a tool that keeps some for a trajectory finds what its earlier calls left.
        Raises ``InfraError`` or ``OutOfTime``. Time that runs out after a failure of the server is
        the server's fault: the failure is raised. A tool that is not repeatable gets one attempt
        that may have reached it.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        cache, digest = self._cache, self._digest(spec, arguments)
        kept = None
        if cache and digest:
            kept = await cache.get(digest, deadline)
        if not spec.keeps_state:
            state = None
        if kept is not None:
            result = ToolResult(spec.name, kept, attempts=0)
        elif cache and digest:
            result, shared = await self._equal_calls.ask(
                digest, lambda: self._ask(spec, arguments, deadline, state), deadline
            )
            if shared:
                result = replace(result, attempts=0)
            elif not result.is_error:
                cache.put(digest, result.text)
        else:
            result = await self._ask(spec, arguments, deadline, state)
        text = truncate(result.text, self.config.max_result_chars)
        truncated = result.truncated or text is not result.text
        return replace(result, text=text, truncated=truncated, seconds=loop.time() - started)

    async def end(self, state: TrajectoryState) -> None:
        """Have the server drop what it keeps for a trajectory; one that cannot be told drops it
        when it was idle.
        """
        kept = state.at.pop(self.config.name, None)
        if kept is None:
            return
        try:
            deadline = Deadline.after(END_TIMEOUT_S)
            await self._client.call_tool(
                kept.url,
                kept.tool,
                kept.arguments,
                deadline,
                meta=state.end_meta(),
                repeatable=False,
            )
        except (InfraError, OutOfTime) as error:
            logger.warning(
                "tool server %s was not told the end of a trajectory: %s", self.config.name, error
            )

    async def _ask(
        self,
        spec: ToolSpec,
        arguments: dict[str, Any],
        deadline: Deadline,
        state: TrajectoryState | None,
    ) -> ToolResult:
        # What a call has left in the trajectory's state, a second one would leave again.
        repeatable = spec.repeatable and state is None
        kept = None
        if state is not None:
            kept = state.at.get(self.config.name)
        home = None
        if kept is not None and kept.kept:
            home = kept.url  # the one replica that has the trajectory's state

        async def send(url: str) -> ToolResult:
            meta = None
            if state is not None:
                # Noted before it is sent: a call without an answer may have left something, too.
                had_state = kept is not None and kept.kept
                sent = Kept(url, spec.name_at_server, arguments, had_state)
                state.at[self.config.name] = sent
                meta = state.meta(sent)
            result = await self._client.call_tool(
                url,
                spec.name_at_server,
                arguments,
                deadline,
                self.config.timeout_s,
                meta,
                repeatable=repeatable,
            )
            if state is not None:
                sent.kept = result.state_kept
            return result

        result, attempts = await self._pool.call(
            f"tool {spec.name}",
            send,
            deadline,
            repeatable=repeatable,
            only=home,
        )
        return replace(result, tool=spec.name, attempts=attempts)

    def _digest(self, spec: ToolSpec, arguments: dict[str, Any]) -> str | None:
        """The cache entry of this call, ``None`` if it has none.

        Where a server states no fingerprint its URLs are part of the key: an embedded one gets
        another port with each run. One elsewhere that changes its answers without saying so needs
        another ``cache_dir``.
        """
        cacheable = self.config.cacheable
        if cacheable is None:
            cacheable = spec.cacheable
        if self._cache is None or not cacheable or not spec.repeatable or spec.keeps_state:
            return None
        if spec.name not in self._homes:
            urls = None
            if not spec.fingerprint:
                urls = sorted(self.config.urls)
            self._homes[spec.name] = digest_of({"tool": asdict(spec), "urls": urls})
        try:
            return digest_of({"home": self._homes[spec.name], "arguments": arguments})
        except (ValueError, TypeError, RecursionError):
            return None  # it cannot be sent either, and the client says why
