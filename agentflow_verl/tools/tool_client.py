"""One configured tool server: its limits, its cache, what happens when a call fails.

Every attempt takes a slot, goes to the URL with the fewest calls in flight, and gives the slot back
before any back-off, so that a failing call does not hold up the others.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Iterable
from dataclasses import asdict, replace
from typing import Any, TypeVar

from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.balancer import Replicas
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.disk_cache import ResultCache, digest_of
from agentflow_verl.core.errors import InfraError, OutOfTime
from agentflow_verl.core.limits import Pace, Slots
from agentflow_verl.core.server_errors import NoReplica, ServerFault
from agentflow_verl.tools.mcp.client import McpClient
from agentflow_verl.tools.session import Kept, TrajectoryState
from agentflow_verl.tools.types import ToolResult, ToolSpec, cut

ATTEMPTS = 3
# Half a second, then two, both give or take a half; a URL that has not failed this call is asked
# without a pause.
BACKOFF_S = (0.5, 2.0)
FAREWELL_S = 2.0

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
        self._slots = Slots(config.concurrency)
        self._pace = Pace(config.calls_per_s)
        self._replicas = Replicas(config.urls)
        self._homes: dict[str, str] = {}

    async def list_tools(self, deadline: Deadline) -> dict[str, tuple[ToolSpec, ...]]:
        """What each URL lists. Raises ``InfraError`` naming the first URL that cannot be reached."""
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
        kept = await cache.get(digest, deadline) if cache and digest else None
        if kept is not None:
            result = ToolResult(spec.name, kept, attempts=0)
        else:
            result = await self._ask(spec, arguments, deadline, state if spec.keeps_state else None)
            if cache and digest and not result.is_error:
                cache.put(digest, result.text)
        text = cut(result.text, self.config.max_result_chars)
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
            deadline = Deadline.after(FAREWELL_S)
            await self._client.call_tool(
                kept.url,
                kept.tool,
                kept.arguments,
                deadline,
                meta=state.farewell(),
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
        what = f"tool {spec.name}"
        repeatable = spec.repeatable and state is None
        failed: set[str] = set()
        failure: InfraError | None = None
        attempt = 0
        kept = state.at.get(self.config.name) if state else None
        while True:
            try:
                async with self._slots.one(deadline, what):
                    await self._pace.turn(deadline, what)
                    with self._replicas.one(
                        failed, only=kept.url if kept and kept.kept else None
                    ) as url:
                        attempt += 1
                        meta = None
                        if state:
                            kept = state.at[self.config.name] = Kept(
                                url, spec.name, arguments, bool(kept and kept.kept)
                            )
                            meta = state.meta(kept)
                        result = await self._client.call_tool(
                            url,
                            spec.name,
                            arguments,
                            deadline,
                            self.config.timeout_s,
                            meta,
                            repeatable=repeatable,
                        )
                        if kept:
                            kept.kept = result.state_kept
                        return result if attempt == 1 else replace(result, attempts=attempt)
            except OutOfTime:
                if failure is not None:
                    raise failure from None
                raise
            except NoReplica as none:
                failure = failure or InfraError(f"{what}: {none}")
                if not await self._replicas.wait(deadline.remaining()):
                    raise failure from None
            except ServerFault as fault:
                failure = fault
                failed.add(url)
                logger.warning("attempt %d of %d: %s", attempt, ATTEMPTS, fault)
                pause = self._pause(fault, attempt, failed)
                end = self._end(repeatable, fault, attempt, pause >= deadline.remaining())
                if end:
                    raise InfraError(f"{fault} (attempt {attempt}, {end})") from fault
                await asyncio.sleep(pause)

    def _pause(self, fault: ServerFault, attempt: int, failed: set[str]) -> float:
        """Seconds until the next attempt: none if it can go elsewhere."""
        if self._replicas.another(than=failed):
            return 0.0
        backoff = BACKOFF_S[min(attempt, len(BACKOFF_S)) - 1]
        return max(backoff * random.uniform(0.5, 1.5), fault.retry_after_s * random.uniform(1, 1.5))

    @staticmethod
    def _end(repeatable: bool, fault: ServerFault, attempt: int, late: bool) -> str | None:
        """Why there is no further attempt, ``None`` if there is one."""
        if attempt == ATTEMPTS:
            return "giving up"
        if fault.reached and not repeatable:
            return "not repeated: it may have changed something"
        return "no time for another" if late else None

    def _digest(self, spec: ToolSpec, arguments: dict[str, Any]) -> str | None:
        """The cache entry of this call, ``None`` if it has none.

        Where a server states no fingerprint its URLs are part of the key: an embedded one gets
        another port with each run. One elsewhere that changes its answers without saying so needs
        another ``cache_dir``.
        """
        cacheable = spec.cacheable if self.config.cacheable is None else self.config.cacheable
        if self._cache is None or not cacheable or not spec.repeatable or spec.keeps_state:
            return None
        if spec.name not in self._homes:
            home = {
                "tool": asdict(spec),
                "urls": None if spec.fingerprint else sorted(self.config.urls),
            }
            self._homes[spec.name] = digest_of(home)
        try:
            return digest_of({"home": self._homes[spec.name], "arguments": arguments})
        except (ValueError, TypeError, RecursionError):
            return None  # it cannot be sent either, and the client says why
