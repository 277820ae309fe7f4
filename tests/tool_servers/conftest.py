from __future__ import annotations

import json
import os
import resource
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tool_servers.server_processes import Bait, Running, start, stop
from tests.tool_servers.services import Service, says
from tests.tool_servers.services import start as start_service


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start servers that end with the test."""
    started: list[Running] = []

    def run(line: list[str], **options) -> Running:
        started.append(start(line, tmp_path / f"server{len(started)}.log", **options))
        return started[-1]

    yield run
    for running in started:
        stop(running)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A service on loopback; each test sets what it replies."""
    made = Service(says({}))
    server = start_service(made)
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {"title": "Paris", "text": "Paris is the capital of France, on the river Seine."},
        {"title": "Berlin", "text": "Berlin is the capital of Germany.", "id": 7},
        {"title": "Tuna", "text": "Tuna is a fish. " * 200},
        {"title": "Curie", "text": "Marie Skłodowska Curie discovered polonium."},
    ]
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    return path


@pytest.fixture(scope="module")
def bait(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bait]:
    folder = tmp_path_factory.mktemp("bait")
    for place in (folder, *folder.parents[:2]):
        place.chmod(0o755)
    file = folder / "secret"
    file.write_text("a secret")
    abstract = f"\0agentflow-test-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        udp.bind(("127.0.0.1", 0))
        listener.bind(abstract)
        listener.listen()
        yield Bait(file, tcp, udp, abstract, listener)


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """As many open as select(2) knows of, so that any further one has a number beyond."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("no more than 1,024 descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1024)]
    yield
    for fd in held:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
