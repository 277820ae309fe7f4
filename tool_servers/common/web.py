"""HTTP as a client, for the servers that need the internet: a session, and a body read up to a
limit.
"""

from __future__ import annotations

import zlib

import aiohttp

USER_AGENT = "agentflow-tool-servers/0.1"
_ENCODINGS = {
    "": None,
    "identity": None,
    "gzip": zlib.MAX_WBITS | 16,
    "x-gzip": zlib.MAX_WBITS | 16,
    "deflate": zlib.MAX_WBITS,
}


class BadBody(Exception):
    """A body that cannot be unpacked. The message says why."""


def session(
    user_agent: str, connector: aiohttp.BaseConnector, trust_env: bool
) -> aiohttp.ClientSession:
    """A session without cookies, since nothing of one call may reach another.

    It has no time limit of its own, and leaves bodies packed: ``body`` unpacks them.
    ``trust_env``: proxies of the environment are used. Needs a running event loop.
    """
    return aiohttp.ClientSession(
        connector=connector,
        headers={"User-Agent": user_agent, "Accept-Encoding": "gzip"},
        cookie_jar=aiohttp.DummyCookieJar(),
        # the call's deadline is the limit of a request
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        auto_decompress=False,  # a kilobyte can unpack to a gigabyte
        trust_env=trust_env,
    )


async def body(response: aiohttp.ClientResponse, most: int) -> tuple[bytes, bool]:
    """The first ``most`` bytes of the body, unpacked, and whether there was more. Raises BadBody or
    aiohttp's errors.
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in _ENCODINGS:
        raise BadBody(f"content encoding {encoding[:40]!r} was not asked for")
    window = _ENCODINGS[encoding]
    unpack = None
    if window is not None:
        unpack = zlib.decompressobj(window)
    parts, size = [], 0
    async for chunk in response.content.iter_any():
        if unpack:
            try:
                chunk = unpack.decompress(chunk, most + 1 - size)
            except zlib.error as error:
                raise BadBody(f"not {encoding}: {error}") from None
        parts.append(chunk)
        size += len(chunk)
        if size > most:
            response.close()  # the rest must not go back to the connection pool unread
            return b"".join(parts)[:most], True
    return b"".join(parts), False
