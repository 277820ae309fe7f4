"""Listening sockets: one for a server alone, one per worker where several share a port."""

from __future__ import annotations

import os
import socket

INHERITED = "AGENTFLOW_TOOL_SOCKET"
"""Environment variable that tells a worker the number of its socket's descriptor."""


def listener(host: str, port: int) -> socket.socket:
    """The socket this process serves: the one its parent made for it, else a new one. Raises
    OSError.
    """
    inherited = os.environ.get(INHERITED)
    if inherited:
        return socket.socket(fileno=int(inherited))
    return _bind(host, port, shared=False)


def shared(host: str, port: int, count: int) -> list[socket.socket]:
    """``count`` sockets on one port; the kernel spreads connections over those that listen
    (SO_REUSEPORT, socket(7)).

    Raises OSError, also where another server has the port already, shared or not.
    """
    with _bind(host, port, shared=False) as alone:
        port = alone.getsockname()[1]
    return [_bind(host, port, shared=True) for _ in range(count)]


def _bind(host: str, port: int, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # the protocol is given by name: only then does asyncio turn off Nagle's algorithm, which costs
    # 40 ms per reply
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    reuse = socket.SO_REUSEPORT if shared else socket.SO_REUSEADDR
    made.setsockopt(socket.SOL_SOCKET, reuse, 1)
    try:
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made
