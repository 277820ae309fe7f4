"""Server-sent events, as WHATWG HTML 9.2 has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.tools.mcp.event_stream import EventStream


def read_whole(stream: bytes) -> list[bytes]:
    return EventStream().feed(stream)


@pytest.mark.parametrize(
    ("stream", "messages"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"event: message\ndata: a\n\n", [b"a"]),
        (b"event: ping\ndata: a\n\ndata: b\n\n", [b"b"]),
        (b"event: ping\n\ndata: b\n\n", [b"b"]),
        (b"data: a\rdata: b\r\r", [b"a\nb"]),
        (b"data: a\r\ndata: b\r\n\r\n", [b"a\nb"]),
        (b"data: a\n\rdata: b\r\n\n", [b"a", b"b"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
        (b": note\nid: 7\nretry: 10\ndata: a\n\n", [b"a"]),
        (b"data\n\n", []),
        (b"data:\n\n", []),
        (b"data\ndata: a\n\n", [b"\na"]),
        (b"dataset: a\n\n", []),
        (b"data: a\n", []),
        (b"", []),
    ],
)
def test_messages_of_a_stream(stream, messages):
    assert read_whole(stream) == messages


PIECES = [b"data: a", b"data:b", b"event: ping", b"event: message", b": x", b"\n", b"\r", b"\r\n"]


@given(st.lists(st.sampled_from(PIECES)), st.lists(st.integers(0, 60)))
def test_chunks_do_not_matter(pieces, cuts):
    stream = b"\xef\xbb\xbf" + b"".join(pieces)
    chunked, seen, start = EventStream(), [], 0
    for cut in [*sorted(cuts), len(stream)]:
        seen += chunked.feed(stream[start:cut])
        start = max(start, cut)
    assert seen == read_whole(stream)
