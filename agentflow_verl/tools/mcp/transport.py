"""One HTTP POST, one JSON-RPC answer: the transport below MCP, on aiohttp.

Whatever a broken server can send ends in one of three ways: a ``Reply``, a ``TransportError`` that
says what was wrong, or ``ReplyTooLarge``. A timeout is ``asyncio.TimeoutError``; by then the
connection is closed, which is how streamable HTTP tells a server that nobody waits any more. Both
forms of an answer are read: one JSON document, or an event stream whose last message is the answer
(MCP specification, transports, "Streamable HTTP").
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from agentflow_verl.core import http_session
from agentflow_verl.core.json_text import loads
from agentflow_verl.core.retry import retry_after_s
from agentflow_verl.tools.mcp.event_stream import EventStream

MAX_REPLY_BYTES = 4 * 1024 * 1024
_ACCEPT = "application/json, text/event-stream"
_EXCERPT = 200

Answer = Callable[[dict[str, Any]], Awaitable[None]]


class TransportError(Exception):
    """The server could not be reached, or did not answer in its protocol; ``reached`` if the
    request may have run.
    """

    def __init__(self, message: str, reached: bool = True) -> None:
        super().__init__(message)
        self.reached = reached


class ReplyTooLarge(Exception):
    """The answer is larger than ``MAX_REPLY_BYTES``; reading it was stopped."""


@dataclass(frozen=True)
class Reply:
    """An answered request: ``result`` or ``error`` of JSON-RPC, or neither where only the HTTP
    status speaks.
    """

    status: int
    id: Any
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    session_id: str | None
    excerpt: str
    retry_after_s: float = 0.0

    def complaint(self) -> str:
        """The failure in a few words."""
        if self.error is not None:
            return (
                f"HTTP {self.status}, JSON-RPC error {self.error.get('code')}:"
                f" {_short(self.error.get('message'))}"
            )
        return f"HTTP {self.status}: {self.excerpt or 'empty body'}"


async def ignore_request(request: dict[str, Any]) -> None:
    """Leave a server's request without an answer."""


async def post(
    session: aiohttp.ClientSession,
    url: str,
    message: bytes,
    headers: dict[str, str],
    timeout_s: float,
    answer: Answer = ignore_request,
) -> Reply:
    """POST one JSON-RPC message and read its answer.

    ``answer`` is awaited for each request that the server makes before it answers.

    Raises ``TransportError``, ``ReplyTooLarge``, or ``asyncio.TimeoutError`` after ``timeout_s``
    seconds.
    """
    headers = {
        "Content-Type": "application/json",
        "Accept": _ACCEPT,
        "Accept-Encoding": "identity",  # a compressed reply could unpack to any size
        **headers,
    }
    try:
        response = await http_session.post(
            session, url, timeout_s, data=message, headers=headers, allow_redirects=False
        )
        async with response:
            try:
                return await _read(response, answer)
            except BaseException:
                response.close()  # an unread rest must not go back to the connection pool
                raise
    except asyncio.TimeoutError:
        raise
    except (aiohttp.ClientError, OSError) as error:
        # Only a failed connect proves that the request was not sent.
        reached = not isinstance(error, aiohttp.ClientConnectorError)
        raise TransportError(f"{type(error).__name__}: {_short(error)}", reached) from error


async def _read(response: aiohttp.ClientResponse, answer: Answer) -> Reply:
    session_id = response.headers.get("Mcp-Session-Id")
    if (response.content_length or 0) > MAX_REPLY_BYTES:
        raise ReplyTooLarge
    if response.status == 200 and response.content_type == "text/event-stream":
        async for event in _messages(response):
            message = _decode(event)
            if not isinstance(message, dict) or "id" not in message:
                continue  # a notification, such as progress
            if "method" in message:
                await answer(message)
            elif "result" in message or "error" in message:
                response.close()  # what follows the answer is of no interest
                return _reply(200, message, session_id, "")
        raise TransportError("the event stream ended without an answer")
    body = await _body(response)
    message = None
    if response.status == 200:
        message = _decode(body)
    if isinstance(message, dict) and ("result" in message or "error" in message):
        return _reply(200, message, session_id, "")
    excerpt = _short(body[: 4 * _EXCERPT].decode("utf-8", "replace"))
    if response.status == 200:
        raise TransportError(f"not a JSON-RPC answer: {excerpt or 'empty body'}")
    try:
        message = _decode(body)
    except TransportError:
        message = None
    if not isinstance(message, dict):
        message = {}  # a proxy's page: only the status speaks
    after_s = retry_after_s(response.headers.get("Retry-After"))
    return _reply(response.status, message, session_id, excerpt, after_s)


def _reply(
    status: int,
    message: dict[str, Any],
    session_id: str | None,
    excerpt: str,
    retry_after_s: float = 0.0,
) -> Reply:
    result, error = message.get("result"), message.get("error")
    for name, value in (("result", result), ("error", error)):
        if status == 200 and value is not None and not isinstance(value, dict):
            raise TransportError(f"JSON-RPC {name} is not an object: {_short(value)}")
    if status == 200 and result is None and error is None:
        raise TransportError("JSON-RPC answer without a result")
    if status != 200 or not isinstance(result, dict):
        result = None
    if not isinstance(error, dict):
        error = None
    return Reply(
        status=status,
        id=message.get("id"),
        result=result,
        error=error,
        session_id=session_id,
        excerpt=excerpt,
        retry_after_s=retry_after_s,
    )


async def _body(response: aiohttp.ClientResponse) -> bytes:
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > MAX_REPLY_BYTES:
            raise ReplyTooLarge
        chunks.append(chunk)
    return b"".join(chunks)


async def _messages(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The messages of an event stream, at most ``MAX_REPLY_BYTES`` in all."""
    events, size = EventStream(), 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > MAX_REPLY_BYTES:
            raise ReplyTooLarge
        for message in events.feed(chunk):
            yield message


def _decode(body: bytes) -> Any:
    try:
        # What is no UTF-8 is replaced, as in an event stream: one bad byte of a page that a tool
        # shows is no reason to lose the rest.
        return loads(body.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        start = _short(body[:_EXCERPT].decode("utf-8", "replace"))
        raise TransportError(f"not JSON: {start or 'empty body'}") from None


def _short(value: Any) -> str:
    # Cut before it is split: the value may be megabytes.
    text = " ".join(str(value)[: 4 * _EXCERPT].split())
    if len(text) > _EXCERPT:
        return text[:_EXCERPT] + "…"
    return text
