"""A JSON service behind a tool: one request, tried again where the service fails, within the call's
time.

Whatever a broken service can do (429, 5xx, garbage, closing early, silence, an endless reply) ends
as calls.ServiceError: no model is to blame for it. No message holds a key or the request.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tool_servers.common import metrics, web
from tool_servers.common.calls import ServiceError

ATTEMPTS = 3
BACKOFF_S = 0.25
"""Before the second attempt, doubled before each further one, give or take a half."""
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_EXCERPT = 200


@dataclass(frozen=True)
class Request:
    """One HTTP request. Keys go into headers: addresses end up in logs, headers do not."""

    url: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    json: Any = None
    """Sent by POST; without it the request is a GET."""


class Rejected(Exception):
    """The service understood and refused: a status of 4xx that no repetition changes."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP {status}: {text}")
        self.status = status


class _Failed(Exception):
    """An attempt that another may better, after at least ``pause`` seconds."""

    def __init__(self, outcome: str, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.pause = pause


class Upstream:
    """A service called ``name`` in metrics and messages; ``secrets`` are blanked out of whatever it
    says.
    """

    def __init__(
        self,
        name: str,
        most_bytes: int,
        user_agent: str = web.USER_AGENT,
        secrets: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self._most_bytes = most_bytes
        self._user_agent = user_agent
        self._secrets = secrets
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, request: Request, end: float) -> Any:
        """The JSON value it answers before ``end`` on ``time.monotonic``; the caller cancels at
        that point.

        Raises Rejected, and ServiceError where it failed three times or will not be better in time.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                value = await self._once(request)
            except _Failed as failed:
                self._count(failed.outcome)
                pause = max(failed.pause, BACKOFF_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
                if attempt == ATTEMPTS or time.monotonic() + pause >= end:
                    raise ServiceError(
                        f"{self.name} failed, attempt {attempt} of {ATTEMPTS}: {failed}"
                    ) from None
                await asyncio.sleep(pause)
            else:
                self._count("ok")
                return value
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """Close the connections. A call still under way fails."""
        if self._session is not None:
            await self._session.close()

    async def _once(self, request: Request) -> Any:
        if self._session is None:
            self._session = web.session(
                self._user_agent, aiohttp.TCPConnector(limit=0, keepalive_timeout=15), True
            )
        options = {"params": request.params, "headers": request.headers, "allow_redirects": False}
        method = "GET" if request.json is None else "POST"
        try:
            async with self._session.request(
                method, request.url, json=request.json, **options
            ) as response:
                raw, cut = await web.body(response, self._most_bytes)
        except web.BadBody as error:
            raise _Failed("garbage", str(error)) from None
        except (
            aiohttp.ClientError,
            OSError,
            asyncio.TimeoutError,
            RuntimeError,
        ) as error:  # RuntimeError: closed session
            raise _Failed("connection", self._clean(f"{type(error).__name__}: {error}")) from None
        said = self._clean(raw[: 4 * _EXCERPT].decode("utf-8", "replace"))
        if response.status in RETRIED:
            pause = _seconds(response.headers.get("Retry-After"))
            raise _Failed(str(response.status), f"HTTP {response.status}: {said}", pause)
        if response.status != 200:
            self._count(str(response.status))
            raise Rejected(response.status, said)
        if cut:
            self._count("too large")
            raise ServiceError(f"{self.name} answered more than {self._most_bytes} bytes")
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):
            raise _Failed("garbage", f"not JSON: {said or 'an empty body'}") from None

    def _count(self, outcome: str) -> None:
        metrics.upstream_requests.labels(self.name, outcome).inc()

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[key]")
        return " ".join(text.split())[:_EXCERPT]


def _seconds(header: str | None) -> float:
    try:
        return max(0.0, float(header or 0))
    except ValueError:  # the header's other form is a date
        return 0.0
