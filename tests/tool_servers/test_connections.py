"""Limits of a connection, before the access check: size, time, number."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.tool_servers.server_processes import Running, command, get, start, stop
from tool_servers.common import connections

HEAD = b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def server(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    line = command("wikipedia_search", "--corpus", str(corpus))
    running = start(line, tmp_path_factory.mktemp("logs") / "log")
    yield running
    stop(running)


def connect(server: Running) -> socket.socket:
    port = int(server.url.rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def answer(link: socket.socket) -> bytes:
    """What the server sends until it closes the connection."""
    parts = []
    try:
        while part := link.recv(1 << 16):
            parts.append(part)
    except ConnectionError:
        pass  # it closed while we were still sending
    return b"".join(parts)


def send_for_ever(link: socket.socket, chunk: bytes, most: int) -> int:
    """Bytes that were taken before the server closed the connection."""
    sent = 0
    try:
        while sent < most:
            link.sendall(chunk)
            sent += len(chunk)
    except OSError:
        pass
    return sent


@pytest.mark.parametrize("start_of_it", [b"GET / HTTP/1.1\r\nX: ", b"GET /", b"\r\n"])
def test_head_that_never_ends_is_cut_off(server: Running, start_of_it: bytes) -> None:
    with connect(server) as link:
        link.sendall(start_of_it)
        filling = b"\r\n" * 2048 if start_of_it == b"\r\n" else b"a" * 4096
        begin = time.monotonic()
        assert send_for_ever(link, filling, 64 << 20) < 32 << 20
        assert time.monotonic() - begin < 30
    assert get(server, "/healthz")[0] == 200


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 99999999999\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n10"]
)
def test_body_that_never_ends_is_cut_off(server: Running, framing: bytes) -> None:
    with connect(server) as link:
        link.sendall(HEAD + framing)
        assert send_for_ever(link, b"; x=" + b"a" * 4096, 128 << 20) < 64 << 20
    assert get(server, "/healthz")[0] == 200


@pytest.mark.parametrize("sent", [b"", b"GET /hea", HEAD + b"Content-Length: 10\r\n\r\n{"])
def test_request_that_is_not_complete_in_time_is_answered_and_closed(
    server: Running, sent: bytes
) -> None:
    with connect(server) as link:
        link.sendall(sent)
        begin = time.monotonic()
        said = answer(link)
        took = time.monotonic() - begin
    assert connections.REQUEST_S - 1 < took < connections.REQUEST_S + 20
    assert said.startswith(b"HTTP/1.1 4") or not said


def test_connection_that_is_kept_alive_may_wait_between_its_requests(server: Running) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with connect(server) as link:
        for _ in range(2):
            link.sendall(request)
            said = b""
            while not said.endswith(b"}"):
                said += link.recv(1 << 16)
            assert said.startswith(b"HTTP/1.1 200")
            time.sleep(connections.REQUEST_S + 1)


def test_three_hundred_slow_connections_shut_nobody_out(server: Running) -> None:
    with ExitStack() as held:
        for number in range(300):
            link = held.enter_context(connect(server))
            link.sendall(HEAD if number % 2 else b"")
        waits = []
        for _ in range(50):
            begin = time.monotonic()
            assert get(server, "/healthz")[0] == 200
            waits.append(time.monotonic() - begin)
    assert sorted(waits)[25] < 1.0


def test_oldest_incomplete_connection_makes_room_for_a_new_one(
    corpus: Path, tmp_path: Path
) -> None:
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80));"
        "from tool_servers.common import workers; workers.main('wikipedia_search')"
    )
    running = start([command("x")[0], "-c", limited, "--corpus", str(corpus)], tmp_path / "log")
    try:
        with ExitStack() as held:
            links = [held.enter_context(connect(running)) for _ in range(60)]
            assert get(running, "/healthz")[0] == 200
            assert answer(links[0]).startswith(b"HTTP/1.1 503")
    finally:
        stop(running)
