"""What a program prints: its messages are found, repaired where their text is bad, and the rest is
passed over.
"""

from __future__ import annotations

import json
import sys

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_types import JSONRPCResponse

from tool_servers.common.text import replace_surrogates, replace_surrogates_in
from tool_servers.stdio import transport
from tool_servers.stdio.transport import parse_message, stdio_transport


def response(text: str) -> bytes:
    result = {"content": [{"type": "text", "text": text}]}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()


def said(line: bytes) -> str:
    message = parse_message(line)
    assert isinstance(message, JSONRPCResponse)
    return message.result["content"][0]["text"]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (response("one"), "one"),
        (response("grüße 😀"), "grüße 😀"),
        (response("cut \ud83d"), "cut \ufffd"),
        (response("\ude00\ud83d"), "\ufffd\ufffd"),
        (response("café").replace(b"\\u00e9", b"\xe9"), "caf\ufffd"),
        (b"Server is up> " + response("one"), "one"),
        (b"\x1b[32m{info}\x1b[0m " + response("one"), "one"),
        (b"\xef\xbb\xbf" + response("one") + b"\r", "one"),
    ],
)
def test_message_is_found(line: bytes, text: str) -> None:
    assert said(line) == text


@pytest.mark.parametrize(
    "line", [b"", b"My server is running", b'{"level": "info"}', b"[1]", b"\xff\xfe", b"{" * 9_999]
)
def test_what_is_no_message_is_passed_over(line: bytes) -> None:
    assert parse_message(line) is None


@given(st.binary())
def test_no_line_raises(line: bytes) -> None:
    parse_message(line)


@given(st.text(st.characters()))
def test_any_text_gets_through_as_valid_unicode(text: str) -> None:
    found = said(response(text))
    found.encode()
    assert found == replace_surrogates(text)


@given(st.recursive(st.text(st.characters()) | st.integers(), st.lists) | st.text())
def test_values_become_valid_unicode(value: object) -> None:
    json.dumps(replace_surrogates_in(value), ensure_ascii=False).encode()


async def test_endless_line_is_dropped_and_the_next_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "LONGEST_LINE", 1_000)
    program = f"print('x' * 5000); print({response('two').decode()!r}, flush=True); input()"
    with anyio.fail_after(30):
        async with stdio_transport([sys.executable, "-c", program], {}) as (received, _):
            message = await received.receive()
            assert message.message.result["content"][0]["text"] == "two"


async def test_end_of_the_program_is_the_end_of_its_messages() -> None:
    with anyio.fail_after(30):
        async with stdio_transport([sys.executable, "-c", "print('bye')"], {}) as (received, _):
            with pytest.raises(anyio.EndOfStream):
                await received.receive()


async def test_program_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "END_S", 0.2)
    program = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nwhile True: time.sleep(1)"
    with anyio.fail_after(30):
        async with stdio_transport([sys.executable, "-c", program], {}):
            pass
