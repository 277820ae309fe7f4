"""Which addresses a page may be fetched from: those of the public Internet, and not this machine's
own.

The check is made where a socket is made, on the numeric address it is about to connect to, after
every name resolution and for every redirect. There is no second resolution that could answer
differently (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import Any

from tool_servers.common.access import plain_address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits


class Forbidden(OSError):
    """An address that may not be connected to. The message says which and why."""


@dataclass(frozen=True)
class Addresses:
    """``allowed`` networks may be fetched from although they are not public, such as an intranet's."""

    allowed: tuple[Any, ...] = ()

    def open(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for an entry of getaddrinfo. Raises Forbidden."""
        family, kind, protocol, _, where = info
        if reason := self.refusal(where[0]):
            raise Forbidden(f"{where[0]} is {reason}")
        return socket.socket(family, kind, protocol)

    def refusal(self, text: str) -> str | None:
        """Why an address may not be connected to, None where it may."""
        address = plain_address(text)
        if any(address in network for network in self.allowed):
            return None
        for inner in _inside(address):
            if not inner.is_global or inner.is_multicast or inner.is_reserved:
                return "not a public address"
        return "an address of this machine" if _is_own(address) else None


def _inside(address: Any) -> list[Any]:
    """The address, and the IPv4 addresses that it leads to by 6to4 (RFC 3056) or Teredo (RFC 4380);
    NAT64's alone.
    """
    if address.version == 4:
        return [address]
    if address in _NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    return [address, *filter(None, (address.sixtofour, *(address.teredo or ())))]


def _is_own(address: Any) -> bool:
    """Whether packets to the address would stay on this machine: the kernel would send them from
    the same address.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))  # sends nothing
            return plain_address(probe.getsockname()[0]) == address
    except OSError:  # no route: connecting will fail by itself
        return False
