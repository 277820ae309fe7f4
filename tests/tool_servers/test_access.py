"""Who may speak to a server: name, origin, token. Every path, every server; wikipedia_search stands
for all.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tool_servers.server_processes import ROOT, Running, command, get, start, stop
from tool_servers.common import access
from tool_servers.common.access import Access, AccessError, access_from_environment

TOKEN = "a-token-of-the-tests-0123456789"


@pytest.fixture(scope="module")
def guarded(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that listens on every address, with a token and a further name."""
    environment = {**os.environ, access.TOKEN: TOKEN, access.HOSTS: "tools.example, other.example"}
    line = command("wikipedia_search", "--corpus", str(corpus), "--host", "0.0.0.0")
    running = start(line, tmp_path_factory.mktemp("logs") / "log", env=environment)
    yield running
    stop(running)


def post(running: Running, **headers: str) -> int:
    """The status of a tools/list request."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        **named,
    }
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}).encode()
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"{running.url}/mcp", body, sent), timeout=10
        ) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong-token-0123456789"}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"Authorization": TOKEN}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": f"Bearer {TOKEN}x"}, 401),
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
        ({"Authorization": f"bearer {TOKEN}"}, 200),
        ({"Authorization": f"Bearer {TOKEN}", "Host": "tools.example"}, 200),
        ({"Authorization": f"Bearer {TOKEN}", "Host": "Tools.Example.:99"}, 200),
        ({"Authorization": f"Bearer {TOKEN}", "Host": "evil.example"}, 421),
        ({"Authorization": f"Bearer {TOKEN}", "Host": "127.0.0.1.evil.example"}, 421),
        ({"Authorization": f"Bearer {TOKEN}", "Host": "[::1"}, 421),
        ({"Authorization": f"Bearer {TOKEN}", "Host": "10.255.255.1"}, 421),
        ({"Authorization": f"Bearer {TOKEN}", "Origin": "https://evil.example"}, 403),
        ({"Authorization": f"Bearer {TOKEN}", "Origin": "null"}, 403),
        ({"Authorization": f"Bearer {TOKEN}", "Origin": "http://[::1"}, 403),
        (
            {
                "Authorization": f"Bearer {TOKEN}",
                "Host": "tools.example",
                "Origin": "ftp://tools.example",
            },
            403,
        ),
        (
            {
                "Authorization": f"Bearer {TOKEN}",
                "Host": "tools.example",
                "Origin": "https://tools.example",
            },
            200,
        ),
    ],
)
def test_request_must_show_what_is_demanded(
    guarded: Running, given: dict[str, str], status: int
) -> None:
    assert post(guarded, **given) == status


def test_probes_need_no_token_but_metrics_do(guarded: Running) -> None:
    assert get(guarded, "/healthz")[0] == 200
    assert get(guarded, "/metrics")[0] == 401
    assert get(guarded, "/nothing-here")[0] == 401
    assert get(guarded, "/metrics", Authorization=f"Bearer {TOKEN}")[0] == 200
    assert get(guarded, "/healthz", Host="evil.example")[0] == 421


def test_request_without_a_host_is_refused(guarded: Running) -> None:
    with socket.create_connection(("127.0.0.1", guarded.line["port"])) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert b" 421 " in connection.recv(100)


def test_refusals_are_logged_without_what_was_sent(guarded: Running) -> None:
    post(guarded, Authorization="Bearer some-secret-that-was-mistyped")
    log = guarded.log.read_text()
    assert TOKEN not in log and "mistyped" not in log
    assert any(
        line["message"] == "refused" and line["status"] == 401
        for line in map(json.loads, log.splitlines())
    )


@pytest.mark.parametrize(
    ("token", "says"),
    [
        (None, "not a loopback address; to let others in, set AGENTFLOW_TOOL_TOKEN"),
        ("short", "at least 16"),
        ("has a space in it, long", "at least 16"),
    ],
)
@pytest.mark.parametrize(
    "name", ["python_coder", "base_generator", "google_search", "wikipedia_search", "web_search"]
)
def test_server_that_others_reach_does_not_start_without_a_token(
    name: str, token: str | None, says: str
) -> None:
    environment = {key: value for key, value in os.environ.items() if key != access.TOKEN}
    if token is not None:
        environment[access.TOKEN] = token
    needed = ["--base-url", "http://x", "--model", "m"] if name == "base_generator" else []
    line = command(name, "--host", "0.0.0.0", *needed)
    ended = subprocess.run(
        line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 2 and ended.stdout == ""
    assert says in ended.stderr.splitlines()[-1]
    assert token is None or token not in ended.stderr.splitlines()[-1]


def test_loopback_server_with_a_token_demands_it_too() -> None:
    scope = {
        "type": "http",
        "path": "/mcp",
        "server": ("127.0.0.1", 80),
        "headers": [(b"host", b"localhost:80")],
    }
    assert Access(TOKEN).refusal(scope).status_code == 401
    assert Access(None).refusal(scope) is None


def test_ipv6_and_mapped_addresses_are_the_same_server() -> None:
    for server, host in (
        (("::1", 80), b"[::1]:80"),
        (("::ffff:10.0.0.5", 80), b"10.0.0.5"),
        (("fe80::1%eth0", 80), b"[fe80::1]"),
    ):
        scope = {"type": "http", "path": "/mcp", "server": server, "headers": [(b"host", host)]}
        assert Access(None).refusal(scope) is None


def test_token_is_not_shown_by_accident() -> None:
    assert TOKEN not in repr(access_from_environment({access.TOKEN: TOKEN}))
    with pytest.raises(AccessError) as caught:
        access_from_environment({access.TOKEN: "tooshort"})
    assert "tooshort" not in str(caught.value)
