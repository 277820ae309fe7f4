"""One page over HTTP: every connection goes to a checked address, and redirects are followed here,
one by one.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import aiohttp

from tool_servers.common import metrics, web
from tool_servers.common.calls import ToolError
from tool_servers.web_search.addresses import Addresses, Forbidden

REDIRECTS = frozenset({301, 302, 303, 307, 308})
READABLE = ("text/", "application/xhtml+xml", "application/xml", "application/json")
READABLE_ENDS = ("+xml", "+json")
"""RFC 6839: application/rss+xml, application/atom+xml, application/ld+json and their like."""
UNKNOWN_KIND = "application/octet-stream"
"""What aiohttp gives for an answer without a Content-Type."""
SNIFFED_BYTES = 1_445
"""WHATWG MIME Sniffing: the resource header."""
UPSTREAM = "web"
_CONNECTION_ERRORS = (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError)


@dataclass(frozen=True)
class Fetched:
    """A page as it came.

    ``kind``: its media type. ``charset``: what the HTTP header says, None where it says nothing.
    ``was_cut``: whether it was longer than the limit.
    """

    url: str
    body: bytes
    kind: str
    charset: str | None
    was_cut: bool


class Fetcher:
    """Fetches pages. No proxy of the environment is used: a proxy would resolve names unchecked."""

    def __init__(
        self, addresses: Addresses, most_bytes: int, most_redirects: int, user_agent: str
    ) -> None:
        self._addresses = addresses
        self._most_bytes = most_bytes
        self._most_redirects = most_redirects
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, url: str, seconds: float | None = None) -> Fetched:
        """The page behind ``url``.

        Whatever goes wrong with it is a ToolError, for the model to read: also that it does not
        come within ``seconds``, however it spends them.
        """
        try:
            return await asyncio.wait_for(self._follow(url), seconds)
        except asyncio.TimeoutError:
            raise ToolError(
                f"The page was not fetched: it did not arrive within {seconds:g} s."
            ) from None

    async def _follow(self, url: str) -> Fetched:
        for _ in range(self._most_redirects + 1):
            page = await self._request(checked_url(url))
            if isinstance(page, Fetched):
                return page
            try:
                url = urljoin(url, page)
            except ValueError:
                raise ToolError(
                    f"The page was not fetched: {url[:200]} redirects to what is no address."
                ) from None
        raise ToolError(f"The page was not fetched: more than {self._most_redirects} redirects.")

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _request(self, url: str) -> Fetched | str:
        """A page, or where the server says it is."""
        if self._session is None:
            # a new connection for each request: one that was checked for one page is not lent to
            # another
            connector = aiohttp.TCPConnector(
                limit=0, force_close=True, socket_factory=self._addresses.open_socket
            )
            self._session = web.session(self._user_agent, connector, trust_env=False)
        outcome = "connection"
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                outcome = str(response.status)
                return await self._read(response, url)
        except web.BadBody as error:
            outcome = "garbage"
            raise ToolError(f"The page was not fetched: {error}.") from None
        except _CONNECTION_ERRORS as error:
            raise ToolError(f"The page was not fetched: {_describe(error)}.") from None
        finally:
            metrics.upstream_requests.labels(UPSTREAM, outcome).inc()

    async def _read(self, response: aiohttp.ClientResponse, url: str) -> Fetched | str:
        if response.status in REDIRECTS and "Location" in response.headers:
            return response.headers["Location"]
        if response.status != 200:
            raise ToolError(
                f"The page was not fetched: {url[:200]} answered HTTP {response.status}."
            )
        kind = response.content_type
        is_unknown = kind == UNKNOWN_KIND and "Content-Type" not in response.headers
        if not is_unknown and not _is_readable(kind):
            raise ToolError(f"The page was not read: it is {kind[:60]}, not text.")
        body, was_cut = await web.body(response, self._most_bytes)
        if is_unknown:
            kind = sniff(body)
        return Fetched(url, body, kind, response.charset, was_cut)


def sniff(body: bytes) -> str:
    """The media type of a page whose server names none. Raises ToolError for what is no text."""
    start = body[:SNIFFED_BYTES]
    if any(byte in start for byte in range(0x09)):  # control characters that no text has
        raise ToolError("The page was not read: its server names no type, and it is not text.")
    start = start.lstrip().lower()
    if start.startswith(b"<?xml"):
        return "text/xml"
    return "text/html" if start.startswith(b"<") else "text/plain"


def checked_url(url: str) -> str:
    """An http or https address without a name and password in it. Raises ToolError."""
    try:
        parts = urlsplit(url.strip())
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ToolError(
            f"{url[:200]!r} is not an address of a web page: it must start with http:// or"
            " https://."
        )
    if parts.username is not None or parts.password is not None:
        raise ToolError("Addresses with a user name or password are not fetched.")
    return url.strip()


def _is_readable(kind: str) -> bool:
    if kind.startswith("image/"):
        return False  # image/svg+xml
    return kind.startswith(READABLE) or kind.endswith(READABLE_ENDS)


def _describe(error: Exception) -> str:
    """The reason in words. An address that was refused is named, not the connection error that it
    caused.
    """
    causes = [error, getattr(error, "os_error", None), error.__cause__]
    causes += getattr(error, "exceptions", ())
    for cause in causes:
        if isinstance(cause, Forbidden):
            return f"{cause}, such addresses are not fetched"
        if isinstance(cause, socket.gaierror):
            return "there is no such host"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
