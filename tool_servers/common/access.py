"""Who may call a tool server: checks of Host, Origin and a bearer token, for every path.

Host      an address or name of this server, so that a web page cannot reach it by a DNS name that
          it rebinds
Origin    absent, or this server itself: browsers send it, MCP clients do not
token     ``Authorization: Bearer …`` (RFC 6750) where the environment sets one; demanded off
          loopback
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import Scope

TOKEN = "AGENTFLOW_TOOL_TOKEN"
"""Environment variable with the token that callers must present; at least 16 printable ASCII
characters, no space.
"""
HOSTS = "AGENTFLOW_TOOL_HOSTS"
"""Environment variable with further names, comma-separated, by which callers reach this server (a
proxy's, a DNS name).
"""
FEWEST_TOKEN_CHARS = 16
OPEN_PATHS = frozenset({"/healthz"})
"""Answered without a token: what probes ask."""

log = logging.getLogger(__name__)


class AccessError(Exception):
    """The environment's access settings cannot be used. The message never holds the token."""


@dataclass(frozen=True)
class Access:
    """What a request must show. ``names``: allowed in Host beside the address that the request
    arrived at.
    """

    token: str | None = field(default=None, repr=False)
    names: frozenset[str] = frozenset()

    def refusal(self, scope: Scope) -> PlainTextResponse | None:
        """The answer to a request that may not go on, or None."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not _names_server(host[:300], scope["server"][0], self.names):
            return _refuse(421, "Host is not a name of this server", scope)
        origin = headers.get("origin")
        if origin is not None and not self._is_own_origin(origin, scope["scheme"], host):
            return _refuse(403, "requests of other web pages are not answered", scope)
        if self.token is None or scope["path"] in OPEN_PATHS:
            return None
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode(), self.token.encode()
        ):
            return None
        return _refuse(401, f"a bearer token is needed: the server's {TOKEN}", scope)

    def _is_own_origin(self, origin: str, scheme: str, host: str) -> bool:
        """Whether a page of this server calls. Compared as text, with the scheme: that is what
        browsers send (RFC 6454). A further name may be that of a proxy, which speaks HTTPS.
        """
        own = {f"{scheme}://{host}".lower()}
        if host.lower().partition(":")[0].rstrip(".") in self.names:
            own.add(f"https://{host}".lower())
        return origin.lower() in own


# the same few for every request; to parse them would be a tenth of an empty call
@lru_cache(maxsize=1_024)
def _names_server(host: str, here: str, names: frozenset[str]) -> bool:
    """Whether a Host header names the server whose address ``here`` the request arrived at."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    address = parse_address(here)
    if address.is_loopback and name == "localhost":
        return True
    try:
        return parse_address(name) == address
    except ValueError:
        return name in names


def access_from_environment(environment: Mapping[str, str] = os.environ) -> Access:
    """Raises AccessError for a token that is too short or cannot stand in a header."""
    token = environment.get(TOKEN)
    if token is not None and not _is_usable_token(token):
        raise AccessError(
            f"{TOKEN} must be at least {FEWEST_TOKEN_CHARS} printable ASCII characters without a"
            " space"
        )
    further = (name.strip().lower() for name in environment.get(HOSTS, "").split(","))
    return Access(token, frozenset(filter(None, (socket.gethostname().lower(), *further))))


def _is_usable_token(token: str) -> bool:
    """Whether it is long enough, and can stand in a header."""
    printable = token.isascii() and token.isprintable() and " " not in token
    return printable and len(token) >= FEWEST_TOKEN_CHARS


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IP address; an IPv4 address that is mapped to IPv6 (RFC 4291, 2.5.5.2) as the former.
    Raises ValueError.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def _refuse(status: int, reason: str, scope: Scope) -> PlainTextResponse:
    client = scope.get("client") or ("unknown",)
    log.warning(
        "refused",
        extra={"status": status, "reason": reason, "path": scope["path"][:80], "client": client[0]},
    )
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return PlainTextResponse(reason, status, headers)
