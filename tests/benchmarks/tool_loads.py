"""The callers of the tool benchmark: bytes on a connection, plain aiohttp, a ToolBox."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import aiohttp

from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.tools.mcp.protocol import MODERN, Peer
from agentflow_verl.tools.toolbox import ToolBox

Load = Callable[[int, Callable[[], bool]], Awaitable[list[float]]]
"""Called with the number of calls at once and whether to make another, gives the seconds that each
call took.
"""


class Connection(asyncio.Protocol):
    """Sends a request, waits for the end of the answer, sends it again."""

    def __init__(self, request: bytes, latencies: list[float], more: Callable[[], bool]) -> None:
        self._request, self._latencies, self._more = request, latencies, more
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._received, self._length = b"", 0
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._length and b"\r\n\r\n" in self._received:
            head, _, _ = self._received.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            self._length = (
                len(head) + 4 + int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            )
        if self._length and len(self._received) >= self._length:
            self._latencies.append(time.perf_counter() - self._sent)
            if self._more():
                self._send()
            else:
                self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.done.set_result(error)


def request_of_the_empty_tool() -> tuple[dict[str, str], bytes]:
    headers, body = Peer(MODERN).request(
        1, "tools/call", {"name": "empty", "arguments": {"text": "x"}}
    )
    return {
        **headers,
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
    }, body


def wire(config: ToolConfig) -> Load:
    """Load by connections that repeat one request."""
    url = urlsplit(config.urls[0])
    headers, body = request_of_the_empty_tool()
    headers |= {"Host": url.netloc, "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"POST {url.path} HTTP/1.1\r\n{head}\r\n".encode() + body

    async def load(connections: int, more: Callable[[], bool]) -> list[float]:
        latencies: list[float] = []
        loop = asyncio.get_running_loop()

        def connect() -> Awaitable[tuple[asyncio.Transport, Connection]]:
            return loop.create_connection(
                lambda: Connection(request, latencies, more), url.hostname, url.port
            )

        opened = [await connect() for _ in range(connections)]
        errors = await asyncio.gather(*(connection.done for _, connection in opened))
        assert not any(errors), errors
        return latencies

    return load


def calling(call: Callable[[], Awaitable[None]]) -> Load:
    """Load by callers that each wait for an answer before the next call."""

    async def load(callers: int, more: Callable[[], bool]) -> list[float]:
        latencies: list[float] = []

        async def caller() -> None:
            while more():
                started = time.perf_counter()
                await call()
                latencies.append(time.perf_counter() - started)

        await asyncio.gather(*(caller() for _ in range(callers)))
        return latencies

    return load


def through(tools: ToolBox, tool: str, arguments: Callable[[int], dict]) -> Load:
    """Load by callers of a ToolBox."""
    numbers = itertools.count()

    async def call() -> None:
        result = await tools.call(tool, arguments(next(numbers)), Deadline.after(120))
        assert not result.is_error, result.text

    return calling(call)


def posting(session: aiohttp.ClientSession, config: ToolConfig) -> Load:
    """Load by callers that use aiohttp as it is."""
    headers, body = request_of_the_empty_tool()

    async def call() -> None:
        async with session.post(config.urls[0], data=body, headers=headers) as response:
            assert "result" in json.loads(await response.read())

    return calling(call)


def for_seconds(seconds: float) -> Callable[[], bool]:
    until = time.perf_counter() + seconds
    return lambda: time.perf_counter() < until


def for_calls(count: int) -> Callable[[], bool]:
    numbers = itertools.count()
    return lambda: next(numbers) < count
