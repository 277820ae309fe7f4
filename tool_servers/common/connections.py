"""Limits of a connection before any of our code sees a request: its size, its time, their number.

uvicorn has none of them for httptools, its fast parser: a header that never ends is collected, and
copied, for as long as it comes, and a connection that sends half a request stays.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 << 10
"""Longest request line with headers, give or take one read of the socket."""
BODY_BYTES = 8 << 20
"""Longest body as it is sent; the MCP SDK's own limit of what is in it is 4 MiB."""
REQUEST_S = 10.0
"""Seconds from a connection, or from the first byte of its next request, until the request is
complete.
"""
MOST_CONNECTIONS = 2_048

log = logging.getLogger(__name__)


def connection_limit() -> int:
    """Raise the limit of open files as far as allowed; return how many connections fit in it.

    A program in the sandbox takes four descriptors, a request to a service one.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(16, min(MOST_CONNECTIONS, most // 2))


class LimitedProtocol(HttpToolsProtocol):
    """A connection that is closed when its request is too large or takes too long to come.

    Where there are too many connections, the one that has waited longest for its request to become
    complete is closed in favour of the new one.
    """

    most_connections = MOST_CONNECTIONS

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head = True
        self._received = 0  # bytes of this head or this body
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= self.most_connections:
            self._make_room()
        super().connection_made(transport)
        self._start_timer()
        if len(self.connections) > self.most_connections:
            self._refuse(503, "too many connections")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._timer is None and self._in_head:
            self._start_timer()  # the first byte of a further request
        super().data_received(data)
        if self._in_head and self._received > HEAD_BYTES:
            self._refuse(431, "the headers are too large")
        elif not self._in_head and self._received > BODY_BYTES:
            self._refuse(413, "the body is too large")

    def on_headers_complete(self) -> None:
        self._in_head, self._received = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._received = True, 0
        self._stop_timer()
        super().on_message_complete()

    @property
    def waits_since(self) -> float | None:
        """When the timer of its request ends; None where no request is awaited."""
        return self._timer.when() if self._timer else None

    def _make_room(self) -> None:
        waiting = []
        for other in self.connections:
            if isinstance(other, LimitedProtocol) and other.waits_since is not None:
                waiting.append(other)
        if waiting:
            oldest = min(waiting, key=lambda other: other.waits_since or 0.0)
            oldest._refuse(503, "too many connections")
            self.connections.discard(oldest)  # it is closed in the next turn of the loop

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(
            REQUEST_S, self._refuse, 408, "the request took too long"
        )

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: int, reason: str) -> None:
        """Answer where nothing has been answered yet, and close the connection."""
        self._stop_timer()
        if self.transport is None or self.transport.is_closing():
            return
        client = self.client[0] if self.client else "unknown"
        log.warning("refused", extra={"status": status, "reason": reason, "client": client})
        if self.cycle is None or self.cycle.response_complete:
            body = reason.encode()
            head = f"HTTP/1.1 {status} \r\nContent-Type: text/plain\r\nConnection: close\r\n"
            self.transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        self.transport.close()
