"""The command line that all tool servers have in common."""

from __future__ import annotations

import argparse
import ipaddress
import socket
from collections.abc import Callable


def parser(server: str, description: str) -> argparse.ArgumentParser:
    """An argument parser with the options every server has; a server adds its own."""
    options = argparse.ArgumentParser(prog=f"python -m tool_servers.{server}", description=description)
    options.add_argument(
        "--host", type=loopback, default="127.0.0.1", help="loopback address to listen on (default: %(default)s)"
    )
    options.add_argument(
        "--port", type=integer(0, 65_535), default=0, help="port to listen on; 0 takes a free one (default)"
    )
    options.add_argument(
        "--timeout",
        type=seconds(0.1, 3_600),
        default=10.0,
        help="most seconds one call may take; a caller may ask for less (default: %(default)s)",
    )
    options.add_argument(
        "--exit-with-parent",
        type=integer(0, 2**31),
        nargs="?",
        const=0,
        default=None,
        metavar="PID",
        help="end when the thread that started this process ends, even by SIGKILL; "
        "give the parent's PID to close the race at start",
    )
    return options


def integer(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: an integer from ``low`` to ``high``, both included."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not an integer") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not between {low} and {high}")
        return value

    return parse


def seconds(low: float, high: float) -> Callable[[str], float]:
    """An argparse type: a number of seconds from ``low`` to ``high``, both included."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
        if not low <= value <= high:  # also refuses NaN
            raise argparse.ArgumentTypeError(f"{text} is not between {low:g} and {high:g} seconds")
        return value

    return parse


def loopback(text: str) -> str:
    """An argparse type: an address of this machine only, because the servers ask nobody who they are."""
    try:
        found = socket.getaddrinfo(text, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise argparse.ArgumentTypeError(f"{text!r} is not an address of this machine") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not all(ipaddress.ip_address(address).is_loopback for address in addresses):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a loopback address; these servers have no access control, use 127.0.0.1"
        )
    return addresses[0]
