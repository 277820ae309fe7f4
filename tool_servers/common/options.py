"""The command line that all tool servers have in common."""

from __future__ import annotations

import argparse
import ipaddress
import os
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

from tool_servers.common import access, web


def parser(server: str, description: str, timeout: float = 10.0) -> argparse.ArgumentParser:
    """An argument parser with the options every server has, and its default timeout; a server adds
    its own.
    """
    options = argparse.ArgumentParser(
        prog=f"python -m tool_servers.{server}", description=description
    )
    options.add_argument(
        "--host",
        type=address,
        default="127.0.0.1",
        help=(
            f"address to listen on (default: %(default)s); off loopback, {access.TOKEN} must hold a"
            " token"
        ),
    )
    add_integer(options, "--port", 0, 65_535, 0, "port to listen on; 0 takes a free one")
    options.add_argument(
        "--timeout",
        type=seconds(0.1, 3_600),
        default=timeout,
        help="most seconds one call may take; a caller may ask for less (default: %(default)s)",
    )
    add_integer(
        options,
        "--workers",
        1,
        256,
        1,
        "processes that serve the port together; limits hold for each",
    )
    options.add_argument(
        "--exit-with-parent",
        type=integer(0, 2**31),
        nargs="?",
        const=0,
        default=None,
        metavar="PID",
        help=(
            "end when the thread that started this process ends, even by SIGKILL; "
            "give the parent's PID to close the race at start"
        ),
    )
    return options


def add_upstream(parser: argparse.ArgumentParser, concurrency: int) -> None:
    """The options of a server that asks a service on the network."""
    add_integer(
        parser,
        "--concurrency",
        1,
        10_000,
        concurrency,
        "calls at once; others wait, within their deadline",
    )
    add_integer(
        parser,
        "--max-reply-bytes",
        1_000,
        1 << 30,
        4 << 20,
        "most that is read of a reply, unpacked",
    )
    parser.add_argument(
        "--user-agent",
        default=web.USER_AGENT,
        help="how the service is told who asks; some want a contact in it",
    )


def add_integer(
    parser: argparse.ArgumentParser, name: str, low: int, high: int, default: int, meaning: str
) -> None:
    """An option that is an integer from ``low`` to ``high``."""
    parser.add_argument(
        name, type=integer(low, high), default=default, help=f"{meaning} (default: %(default)s)"
    )


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


def number(low: float, high: float) -> Callable[[str], float]:
    """An argparse type: a number from ``low`` to ``high``, both included."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not low <= value <= high:  # also refuses NaN
            raise argparse.ArgumentTypeError(f"{text} is not between {low:g} and {high:g}")
        return value

    return parse


seconds = number
"""An argparse type: a number of seconds."""


def address(text: str) -> str:
    """An argparse type: an address to listen on. One that other machines can reach needs a token in
    the environment.
    """
    try:
        found = socket.getaddrinfo(text, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise argparse.ArgumentTypeError(f"{text!r} is not an address of this machine") from None
    addresses = [str(entry[4][0]) for entry in found]
    try:
        token = access.access_from_environment().token
    except access.AccessError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if token is None and not all(
        ipaddress.ip_address(address).is_loopback for address in addresses
    ):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a loopback address; to let others in, set {access.TOKEN} to a token"
            " that they must present"
        )
    return addresses[0]


def web_address(text: str) -> str:
    """An argparse type: where an HTTP service is, without a slash at its end."""
    parts = urlsplit(text)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.username
        or parts.query
        or parts.fragment
    ):
        raise argparse.ArgumentTypeError(f"{text!r} is not a plain http or https URL")
    return text.rstrip("/")


def secret(name: str) -> str:
    """A key from the environment; keys are no options, a process list shows those. Raises
    WrongInput.
    """
    value = os.environ.get(name, "").strip()
    if not (value and value.isascii() and value.isprintable()):
        raise WrongInput(f"the environment variable {name} holds no key")
    return value


class WrongInput(Exception):
    """An option, file or key with which the server cannot start. The message is one line that says
    which and why.
    """
