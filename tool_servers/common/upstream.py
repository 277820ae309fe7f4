"""A JSON service behind a tool: one request, repeated where the service fails, within the call's
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
from tool_servers.common.text import blank_secrets, replace_surrogates

ATTEMPTS = 3
BACKOFF_S = 0.25
"""Pause before the second attempt. It doubles before each further one; what is slept is drawn from
50% to 150% of it.
"""
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_EXCERPT = 200
_CONNECTION_ERRORS = (aiohttp.ClientError, OSError, asyncio.TimeoutError, RuntimeError)
"""RuntimeError: the session was closed."""


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
    """An attempt that may be repeated, after at least ``pause`` seconds."""

    def __init__(self, outcome: str, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.pause = pause


class Upstream:
    """A service called ``name`` in metrics and messages. ``secrets`` are blanked out of whatever it
    answers.
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
        """The JSON value that it answers.

        The caller cancels at ``end`` on ``time.monotonic``; no attempt is begun after it. Raises
        Rejected, and ServiceError where the last attempt failed.
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
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=15)
            self._session = web.session(self._user_agent, connector, trust_env=True)
        try:
            async with self._session.request(
                "GET" if request.json is None else "POST",
                request.url,
                params=request.params,
                headers=request.headers,
                json=request.json,
                allow_redirects=False,  # a redirect could lead the key to another host
            ) as response:
                raw, was_cut = await web.body(response, self._most_bytes)
        except web.BadBody as error:
            raise _Failed("garbage", self._excerpt(str(error))) from None
        except _CONNECTION_ERRORS as error:
            raise _Failed("connection", self._excerpt(f"{type(error).__name__}: {error}")) from None
        said = self._excerpt(raw.decode("utf-8", "replace"))
        if response.status in RETRIED:
            pause = _seconds(response.headers.get("Retry-After"))
            raise _Failed(str(response.status), f"HTTP {response.status}: {said}", pause)
        if response.status != 200:
            self._count(str(response.status))
            raise Rejected(response.status, said)
        if was_cut:
            self._count("too large")
            raise ServiceError(f"{self.name} answered more than {self._most_bytes} bytes")
        try:
            return self._clean_json(json.loads(raw))
        except (ValueError, RecursionError):
            raise _Failed("garbage", f"not JSON: {said or 'an empty body'}") from None

    def _count(self, outcome: str) -> None:
        metrics.upstream_requests.labels(self.name, outcome).inc()

    def _clean(self, text: str) -> str:
        """Valid Unicode without a key."""
        return blank_secrets(replace_surrogates(text), self._secrets)

    def _clean_json(self, value: Any) -> Any:
        """The value, its texts cleaned: a service may repeat the key that it was sent."""
        if isinstance(value, str):
            return self._clean(value)
        if isinstance(value, list):
            return [self._clean_json(item) for item in value]
        if isinstance(value, dict):
            return {self._clean(key): self._clean_json(value[key]) for key in value}
        return value

    def _excerpt(self, text: str) -> str:
        return " ".join(self._clean(text).split())[:_EXCERPT]


def _seconds(header: str | None) -> float:
    try:
        return max(0.0, float(header or 0))
    except ValueError:  # the header's other form is a date
        return 0.0
