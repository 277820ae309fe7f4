"""One page over HTTP: every connection goes to a checked address, every redirect is followed by
hand.
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
READABLE = (
    "text/",
    "application/xhtml+xml",
    "application/xml",
    "application/json",
    "application/ld+json",
)
UPSTREAM = "web"


@dataclass(frozen=True)
class Fetched:
    """A page as it came; ``cut`` says that it was longer than the limit."""

    url: str
    body: bytes
    kind: str
    charset: str | None
    cut: bool


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

    async def fetch(self, url: str) -> Fetched:
        """The page behind ``url``. Whatever goes wrong with a page is a ToolError, for the model to
        read.
        """
        for _ in range(self._most_redirects + 1):
            page = await self._one(checked(url))
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
        if self._session is not None:
            await self._session.close()

    async def _one(self, url: str) -> Fetched | str:
        """A page, or where the server says it is."""
        if self._session is None:
            # a connection for each request: one that was checked for one page is not lent to
            # another
            connector = aiohttp.TCPConnector(
                limit=0, force_close=True, socket_factory=self._addresses.open
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
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError) as error:
            raise ToolError(f"The page was not fetched: {_why(error)}.") from None
        finally:
            metrics.upstream_requests.labels(UPSTREAM, outcome).inc()

    async def _read(self, response: aiohttp.ClientResponse, url: str) -> Fetched | str:
        if response.status in REDIRECTS and "Location" in response.headers:
            return response.headers["Location"]
        if response.status != 200:
            raise ToolError(f"The page was not fetched: {url} answered HTTP {response.status}.")
        kind = response.content_type
        if not kind.startswith(READABLE):
            raise ToolError(f"The page was not read: it is {kind[:60]}, not text.")
        body, cut = await web.body(response, self._most_bytes)
        return Fetched(url, body, kind, response.charset, cut)


def checked(url: str) -> str:
    """An http or https address without a name and password in it. Raises ToolError."""
    try:
        parts = urlsplit(url.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ToolError(
            f"{url[:200]!r} is not an address of a web page: it must start with http:// or"
            " https://."
        )
    if parts.username is not None or parts.password is not None:
        raise ToolError("Addresses with a user name or password are not fetched.")
    return url.strip()


def _why(error: Exception) -> str:
    """The reason in words; a refused address is not hidden behind the connection error it caused."""
    for cause in (
        error,
        getattr(error, "os_error", None),
        error.__cause__,
        *getattr(error, "exceptions", ()),
    ):
        if isinstance(cause, Forbidden):
            return f"{cause}, such addresses are not fetched"
        if isinstance(cause, socket.gaierror):
            return "there is no such host"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
