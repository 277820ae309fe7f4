"""Server-sent events as the standard has them (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventStream:
    """Reads a stream chunk by chunk; an event that its end cuts off is not dispatched."""

    def __init__(self) -> None:
        self._pending = b""
        self._at_start = True
        self._after_cr = False
        self._type = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of each event of type ``message`` that ends in this chunk; others are none of
        MCP's.
        """
        if self._after_cr and chunk:  # a CRLF may be split between two chunks
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        *lines, self._pending = _LINE_END.split(self._pending + chunk)
        if chunk.endswith(b"\r"):
            self._after_cr = True
        messages: list[bytes] = []
        for line in lines:
            if self._at_start:
                line = line.removeprefix(_BYTE_ORDER_MARK)
                self._at_start = False
            if line:
                self._take_field(line)
                continue
            # An empty one only tells where to resume (MCP 2025-11-25).
            if any(self._data) and self._type in (b"", b"message"):
                messages.append(b"\n".join(self._data))
            self._type, self._data = b"", []
        return messages

    def _take_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._type = value
