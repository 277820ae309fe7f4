"""One configured tool server: how many calls at once, which of its URLs, what happens when one fails.

Every attempt takes a slot, goes to the URL with the fewest calls in flight, and gives the slot back before any
back-off, so that a failing call does not hold up the others.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Collection, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from agentflow_verl.deadline import Deadline
from agentflow_verl.errors import InfraError, OutOfTime
from agentflow_verl.tools.mcp_client import McpClient
from agentflow_verl.tools.spec import ToolConfig, ToolResult, ToolSpec, cut

ATTEMPTS = 3
# Half a second, then two, both give or take a half: about as long as a supervised server needs to come back.
BACKOFF_S = (0.5, 2.0)

T = TypeVar("T")

logger = logging.getLogger(__name__)


async def wait_all(work: Iterable[Awaitable[T]]) -> list[T]:
    """Every result in order, or the first failure, but only once all have ended: nothing is left running."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


class Slots:
    """A counting semaphore, first come first served, whose wait ends at a deadline.

    Not ``asyncio.wait_for(semaphore.acquire())``: before Python 3.12 that swallows a cancellation which arrives
    together with the slot, and the call of a trajectory that ended would go on.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiters: deque[asyncio.Future[bool]] = deque()

    @asynccontextmanager
    async def one(self, deadline: Deadline, what: str) -> AsyncIterator[None]:
        """Hold a slot. Raises ``OutOfTime`` if none comes free before the deadline."""
        await self._take(deadline, what)
        try:
            yield
        finally:
            self._give()

    async def _take(self, deadline: Deadline, what: str) -> None:
        if self._free > 0:
            self._free -= 1
            return
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        timer = loop.call_later(deadline.remaining(), _settle, waiter, False)
        self._waiters.append(waiter)
        try:
            granted = await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.result():
                self._give()
            raise
        finally:
            timer.cancel()
        if not granted:
            raise OutOfTime(f"{what}: no free slot before the deadline")

    def _give(self) -> None:
        while self._waiters:
            if _settle(self._waiters.popleft(), True):
                return
        self._free += 1


def _settle(waiter: asyncio.Future[bool], granted: bool) -> bool:
    if waiter.done():
        return False
    waiter.set_result(granted)
    return True


class ToolServer:
    """The replicas of one server, seen from this process."""

    def __init__(self, config: ToolConfig, client: McpClient) -> None:
        self.config = config
        self._client = client
        self._slots = Slots(config.concurrency)
        self._in_flight = dict.fromkeys(config.urls, 0)

    async def list_tools(self, deadline: Deadline) -> dict[str, tuple[ToolSpec, ...]]:
        """What each URL lists. Raises ``InfraError`` naming the first URL that cannot be reached."""
        listings = await wait_all(self._client.list_tools(url, deadline) for url in self.config.urls)
        return dict(zip(self.config.urls, listings, strict=True))

    async def call(self, name: str, arguments: dict[str, Any], deadline: Deadline) -> ToolResult:
        """Call a tool, up to three times where the server fails. Raises ``InfraError`` or ``OutOfTime``.

        Time that runs out after a failure of the server is the server's fault: the failure is raised.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        failed: set[str] = set()
        failure: InfraError | None = None
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self._slots.one(deadline, f"tool {name}"):
                    with self._least_loaded(failed) as url:
                        result = await self._client.call_tool(url, name, arguments, deadline, self.config.timeout_s)
            except OutOfTime:
                if failure is not None:
                    raise failure from None
                raise
            except InfraError as error:
                failed.add(url)
                failure = error
                logger.warning("attempt %d of %d: %s", attempt, ATTEMPTS, error)
                if attempt == ATTEMPTS:
                    raise InfraError(f"{error} (attempt {attempt}, giving up)") from error
                pause = BACKOFF_S[attempt - 1] * random.uniform(0.5, 1.5)
                if pause >= deadline.remaining():
                    raise InfraError(f"{error} (attempt {attempt}, no time for another)") from error
                await asyncio.sleep(pause)
                continue
            return self._finish(result, attempt, loop.time() - started)
        raise AssertionError("unreachable")

    @contextmanager
    def _least_loaded(self, avoid: Collection[str]) -> Iterator[str]:
        """The URL with the fewest calls in flight, one that already failed this call only if there is no other."""
        url = min(self._in_flight, key=lambda url: (url in avoid, self._in_flight[url], random.random()))
        self._in_flight[url] += 1
        try:
            yield url
        finally:
            self._in_flight[url] -= 1

    def _finish(self, result: ToolResult, attempts: int, seconds: float) -> ToolResult:
        text = cut(result.text, self.config.max_result_chars)
        truncated = result.truncated or text is not result.text
        return replace(result, text=text, truncated=truncated, attempts=attempts, seconds=seconds)
