"""web_search: which addresses it connects to, what it reads of a page, and how bad pages end."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tool_servers import services
from tests.tool_servers.server_processes import (
    Running,
    alive,
    call,
    command,
    descendants,
    eventually,
    metrics,
    start,
    stop,
    text,
)
from tests.tool_servers.services import Asked, Service, send
from tests.tool_servers.services import start as start_service
from tool_servers.common.calls import ToolError
from tool_servers.web_search import addresses, page
from tool_servers.web_search.addresses import Addresses, Forbidden
from tool_servers.web_search.fetch import Fetcher, checked_url
from tool_servers.web_search.page import Extraction, Page, Reader, extract

LOOPBACK = (ipaddress.ip_network("127.0.0.1/32"),)
PRIVATE = """
127.0.0.1 127.8.9.1 0.0.0.0 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 224.0.0.1
255.255.255.255 240.0.0.1 192.0.2.1 198.18.0.1 ::1 :: fe80::1 fe80::1%eth0 fd00:ec2::254 ff02::1
::ffff:127.0.0.1 ::ffff:169.254.169.254 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 2002:7f00:1::
2001:0:7f00:1:: 2001:db8::1 192.0.0.192 168.63.129.16 192.88.99.1 192.31.196.1 fec0::1 3fff::1
100::1 2001:20::1 64:ff9b:1::1 4000::1 5f00::1
""".split()
PAGE = """<html><head><title>Rivers of Europe</title></head>
<body><nav>Home About Login</nav><article><h1>Rivers of Europe</h1>
<p>The Danube is the second longest river of Europe and flows through
ten countries on its way to the Black Sea.</p>
<p>The Seine flows through Paris, the capital of France, and empties into the
English Channel at Le Havre.</p>
<p>The Volga is the longest river of the continent; its basin lies almost
entirely within Russia.</p>
</article><script>alert("never shown")</script></body></html>"""


def plain(body: bytes) -> Extraction:
    return Extraction(body, "text/plain", None, "x", 1, 100)


def read(body: bytes, kind: str, charset: str | None, query: str, k: int, chars: int) -> Page:
    return extract(Extraction(body, kind, charset, query, k, chars))


# addresses


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert Addresses().refusal(address) == "not a public address"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(Forbidden, match="not a public address"):
        Addresses().open_socket((family, socket.SOCK_STREAM, 0, "", (address, 80)))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "64:ff9b::101:101"]
)
def test_public_addresses_are_not(address: str) -> None:
    assert Addresses().refusal(address) is None


@given(st.ip_addresses())
def test_nothing_but_global_unicast_ever_passes(address) -> None:
    mapped = getattr(address, "ipv4_mapped", None) or address
    if Addresses().refusal(str(address)) is None:
        assert mapped.is_global and not mapped.is_multicast


def test_address_of_this_machine_is_refused_even_where_it_is_public(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("1.1.1.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but loopback's")
        own = probe.getsockname()[0]
    monkeypatch.setattr(addresses, "is_public", lambda address: True)
    assert Addresses().refusal(own) == "an address of this machine"


# fetching


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    made = Fetcher(Addresses(LOOPBACK), 50_000, 3, "agentflow-test")
    yield made
    await made.close()


async def refused(fetcher: Fetcher, url: str) -> str:
    with pytest.raises(ToolError) as caught:
        await fetcher.fetch(url)
    return str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "127.0.0.1.",
        "１２７.0.0.1",
    ],
)
async def test_no_spelling_of_a_private_address_is_connected_to(
    service: Service, host: str
) -> None:
    service.reply = lambda _, handler: send(handler, b"secret", "text/plain")
    service.asked.clear()
    strict = Fetcher(Addresses(), 50_000, 3, "agentflow-test")
    try:
        assert "was not fetched" in await refused(strict, f"http://{host}:{service.port}/")
    finally:
        await strict.close()
    assert not service.asked


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_to_a_private_address_is_refused_although_the_first_hop_was_allowed(
    service: Service, fetcher: Fetcher, status: int
) -> None:
    inner = Service(lambda _, handler: send(handler, b"secret", "text/plain"))
    server = start_service(inner)
    try:
        service.reply = lambda _, handler: send(
            handler, b"", "text/html", status, Location=f"http://127.0.0.2:{inner.port}/"
        )
        said = await refused(fetcher, service.url)
    finally:
        server.shutdown()
        server.server_close()
    assert "127.0.0.2 is not a public address" in said
    assert not inner.asked


async def test_name_that_resolves_to_another_address_the_second_time_gains_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the address that was checked is the one connected to."""
    answers = iter(["127.0.0.1", "127.0.0.2"])
    asked = []

    async def resolve(self, host, port, *_, **__):
        address = next(answers)
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", resolve)
    service.reply = lambda _, handler: send(handler, b"one", "text/plain")
    service.asked.clear()
    made = Fetcher(Addresses(LOOPBACK), 50_000, 3, "agentflow-test")
    try:
        assert (await made.fetch(f"http://rebind.example:{service.port}/")).body == b"one"
        assert "127.0.0.2 is not a public address" in await refused(
            made, f"http://rebind.example:{service.port + 1}/"
        )
    finally:
        await made.close()
    assert asked == ["rebind.example"] * 2 and len(service.asked) == 1


async def test_redirects_are_followed_up_to_a_limit_and_keep_nothing(
    service: Service, fetcher: Fetcher
) -> None:
    def reply(asked: Asked, handler) -> None:
        hops = int(asked.params.get("hops", 0))
        if hops:
            send(
                handler, b"", "text/html", 302, Location=f"/next?hops={hops - 1}", Set_Cookie="a=b"
            )
        else:
            send(handler, b"there", "text/plain")

    service.reply = reply
    got = await fetcher.fetch(f"{service.url}/?hops=3")
    assert got.body == b"there" and got.url.endswith("/next?hops=0")
    assert "cookie" not in service.asked[-1].headers
    assert "more than 3 redirects" in await refused(fetcher, f"{service.url}/?hops=4")


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "gopher://x",
        "http://user:word@127.0.0.1/",
        "//",
        "http://",
        "http://[x",
    ],
)
async def test_redirect_leads_to_web_pages_only(
    service: Service, fetcher: Fetcher, target: str
) -> None:
    service.reply = lambda _, handler: send(handler, b"", "text/html", 302, Location=target)
    assert await refused(fetcher, service.url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "paris",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://",
        "http://[::1",
        "http://x:99999999",
    ],
)
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(ToolError, match="is not an address of a web page"):
        checked_url(url)


BAD_PAGES = {
    "429": (services.FAULTS["429"], "answered HTTP 429"),
    "500": (services.FAULTS["500"], "answered HTTP 500"),
    "not found": (lambda _, handler: send(handler, b"no", "text/html", 404), "answered HTTP 404"),
    "a picture": (
        lambda _, handler: send(handler, b"\x89PNG", "image/png"),
        "it is image/png, not text",
    ),
    "not packed as it says": (services.not_packed, "not gzip"),
    "unknown packing": (
        lambda _, h: send(h, b"x", "text/html", Content_Encoding="br"),
        "'br' was not asked for",
    ),
    "closes early": (services.close_early_text, "was not fetched: ClientPayloadError"),
    "resets": (services.reset, "was not fetched"),
}


@pytest.mark.parametrize("fault", list(BAD_PAGES))
async def test_page_that_cannot_be_had_is_a_failure_for_the_model(
    service: Service, fetcher: Fetcher, fault: str
) -> None:
    service.reply, says = BAD_PAGES[fault]
    assert says in await refused(fetcher, service.url)


async def test_host_that_is_not_there_is_a_failure(fetcher: Fetcher) -> None:
    assert "there is no such host" in await refused(fetcher, "http://no-such-host.invalid/")


@pytest.mark.parametrize("fault", ["endless", "packed bomb"])
async def test_endless_page_is_cut(service: Service, fetcher: Fetcher, fault: str) -> None:
    service.reply = services.FAULTS[fault]
    begin = time.monotonic()
    got = await fetcher.fetch(service.url)
    assert got.was_cut and len(got.body) == 50_000 and time.monotonic() - begin < 20


async def test_packed_page_is_unpacked(service: Service, fetcher: Fetcher) -> None:
    service.reply = lambda _, handler: send(
        handler, gzip.compress(b"text"), "text/plain; charset=utf-8", Content_Encoding="gzip"
    )
    got = await fetcher.fetch(service.url)
    assert (got.body, got.kind, got.charset, got.was_cut) == (b"text", "text/plain", "utf-8", False)


# reading


def test_article_is_read_without_its_surroundings_the_nearest_passage_first() -> None:
    found = read(PAGE.encode(), "text/html", "utf-8", "which river flows through Paris", 1, 150)
    assert found.title == "Rivers of Europe"
    assert [
        passage.text.startswith("The Seine flows through Paris") for passage in found.passages
    ] == [True]
    everything = read(PAGE.encode(), "text/html", None, "zzz", 99, 150)
    assert (
        "never shown" not in str(everything)
        and "Danube" in everything.passages[0].text + everything.passages[1].text
    )


@pytest.mark.parametrize(
    "body", [b"", b"   ", b"<html></html>", b"\xff\xfe\x00", b"<" * 50_000, b"<p>" * 20_000]
)
def test_page_without_text_has_no_passages_or_its_own(body: bytes) -> None:
    found = read(body, "text/html", None, "x", 3, 100)
    assert all(passage.text for passage in found.passages)


@pytest.mark.parametrize(
    ("charset", "body"),
    [
        ("latin-1", b"\xe9"),
        *(
            (name, "é".encode())
            for name in ("utf-8", "no-such-charset", "hex", "idna", "undefined", None)
        ),
    ],
)
def test_plain_text_is_decoded_as_it_says(charset: str | None, body: bytes) -> None:
    assert read(body, "text/plain", charset, "x", 1, 100).passages[0].text == "é"


def endless_loop(*_: object) -> None:
    while True:
        pass


def too_much_memory(*_: object) -> None:
    bytes(3 << 30)


def abrupt_end(*_: object) -> None:
    import os

    os._exit(3)


@pytest.mark.parametrize(
    ("work", "says"),
    [(endless_loop, "in time"), (too_much_memory, "too large"), (abrupt_end, "ended the process")],
)
async def test_extraction_that_goes_wrong_is_killed_and_the_next_page_is_read(
    work, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(1, 1_024)
    real = page.extract
    try:
        first = await reader.read(plain(b"hello there"), 60)
        assert first.passages[0].text == "hello there"
        monkeypatch.setattr(page, "extract", work)
        with pytest.raises(ToolError, match=says):
            await reader.read(plain(b"x"), 2)
        monkeypatch.setattr(page, "extract", real)
        again = await reader.read(plain(b"still there"), 60)
        assert again.passages[0].text == "still there"
    finally:
        await reader.close()


# the server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    line = command(
        "web_search",
        "--allow-net",
        "127.0.0.1/32",
        "--timeout",
        "20",
        "--readers",
        "1",
        "--max-reply-bytes",
        "100000",
    )
    running = start(line, tmp_path_factory.mktemp("logs") / "log")
    yield running
    stop(running)


async def test_page_over_mcp(server: Running, service: Service) -> None:
    service.reply = lambda _, handler: send(handler, PAGE.encode(), "text/html")
    result = await call(
        server,
        "web_search",
        {"query": "longest river basin in Russia", "url": f"{service.url}/rivers?private=1"},
    )
    assert not result.is_error
    assert text(result).startswith(f"Rivers of Europe\n{service.url}/rivers?private=1\n\n[1] ")
    assert "Volga" in text(result)
    assert (
        metrics(server)['agentflow_tool_upstream_requests_total{outcome="200",upstream="web"}'] >= 1
    )
    assert "private" not in server.log.read_text() and "river" not in server.log.read_text()
    assert all(map(json.loads, server.log.read_text().splitlines()))


async def test_slow_page_is_given_up_with_the_caller_s_time(
    server: Running, service: Service
) -> None:
    service.reply = services.slow
    begin = time.monotonic()
    result = await call(server, "web_search", {"query": "x", "url": service.url}, remaining_s=1.0)
    assert result.is_error and "no result within 1.0 s" in text(result)
    assert time.monotonic() - begin < 5


async def test_page_that_hangs_is_the_page_s_failure(tmp_path: Path, service: Service) -> None:
    """The call's whole time is the server's: it must not look like a failure of the server."""
    line = command("web_search", "--allow-net", "127.0.0.1/32", "--readers", "1", "--timeout", "4")
    running = start(line, tmp_path / "log")
    service.reply = services.slow
    result = await call(running, "web_search", {"query": "x", "url": service.url})
    assert result.is_error and "did not arrive within 2.8 s" in text(result)
    stop(running)


async def test_killed_server_leaves_no_reader_behind(tmp_path: Path) -> None:
    running = start(command("web_search", "--readers", "2"), tmp_path / "log")
    assert await asyncio.to_thread(eventually, lambda: len(descendants(running.pid)) >= 3, 30)
    children = descendants(running.pid)
    running.process.kill()
    assert await asyncio.to_thread(eventually, lambda: not alive(children), 20)
    stop(running)
