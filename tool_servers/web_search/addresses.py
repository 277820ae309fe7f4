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

import aiohttp

from tool_servers.common.access import parse_address

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# IANA's special-purpose registries (iana.org/assignments/iana-ipv4-special-registry and
# iana-ipv6-special-registry, 2025-10), all blocks that are not globally reachable or lead
# elsewhere, with multicast, deprecated blocks, and the clouds' metadata addresses. Listed here,
# since what
# ipaddress.is_global says differs from one version of Python to the next.
_REFUSED_IPV4 = """
0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24
192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24
198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
168.63.129.16/32
"""
_GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")
"""IANA has given out global unicast addresses from this block alone."""
_REFUSED_IPV6 = """
2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20
"""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""RFC 6052: leads to the IPv4 address in its last 32 bits."""


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(map(ipaddress.ip_network, text.split()))


_REFUSED = {4: _networks(_REFUSED_IPV4), 6: _networks(_REFUSED_IPV6)}


class Forbidden(OSError):
    """An address that may not be connected to. The message says which and why."""


@dataclass(frozen=True)
class Addresses:
    """``allowed``: networks that may be fetched from although they are not public, such as an
    intranet's.
    """

    allowed: tuple[Network, ...] = ()

    def open_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """A socket for an entry of getaddrinfo. Raises Forbidden."""
        family, kind, protocol, _, where = info
        host = str(where[0])
        if reason := self.refusal(host):
            raise Forbidden(f"{host} is {reason}")
        return socket.socket(family, kind, protocol)

    def refusal(self, text: str) -> str | None:
        """Why an address may not be connected to, None where it may."""
        address = parse_address(text)
        if any(address in network for network in self.allowed):
            return None
        if not is_public(address):
            return "not a public address"
        return "an address of this machine" if _is_own(address) else None


def is_public(address: Address) -> bool:
    """Whether the address is one of the public Internet."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
        if address not in _GLOBAL_IPV6:
            return False
    return not any(address in network for network in _REFUSED[address.version])


def _is_own(address: Address) -> bool:
    """Whether packets to the address would stay on this machine: the kernel would send them from
    the same address.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))  # sends nothing
            return parse_address(probe.getsockname()[0]) == address
    except OSError:  # no route: connecting will fail by itself
        return False
