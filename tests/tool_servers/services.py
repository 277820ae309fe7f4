"""Local HTTP servers that stand in for services on the Internet: they speak those services'
formats, or fail.
"""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Asked:
    """One request as it arrived; parameters that were given once, header names in lower case."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    json: Any


@dataclass
class Service:
    """``reply`` decides what happens to each request; ``asked`` keeps them."""

    reply: Callable[[Asked, BaseHTTPRequestHandler], None]
    port: int = 0
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = Asked(
            self.command,
            parts.path,
            {name: values[0] for name, values in parse_qs(parts.query).items()},
            {name.lower(): value for name, value in self.headers.items()},
            json.loads(body) if body else None,
        )
        self.server.service.asked.append(asked)
        self.server.service.reply(asked, self)

    do_GET = do_POST = _handle

    def log_message(self, *_: object) -> None:
        pass


def start(service: Service) -> ThreadingHTTPServer:
    """Serve on a free loopback port; ``shutdown`` and ``server_close`` end it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.service = service
    service.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


# replies


def send(
    handler: BaseHTTPRequestHandler, body: bytes, kind: str, status: int = 200, **headers: str
) -> None:
    handler.send_response(status)
    for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def send_json(
    handler: BaseHTTPRequestHandler, value: Any, status: int = 200, **headers: str
) -> None:
    send(handler, json.dumps(value).encode(), "application/json", status, **headers)


def says(
    value: Any, status: int = 200, **headers: str
) -> Callable[[Asked, BaseHTTPRequestHandler], None]:
    """A reply that is always this JSON value, packed as the real services pack it."""

    def reply(_: Asked, handler: BaseHTTPRequestHandler) -> None:
        packed = gzip.compress(json.dumps(value).encode())
        send(handler, packed, "application/json", status, Content_Encoding="gzip", **headers)

    return reply


def close_early(_: Asked, handler: BaseHTTPRequestHandler, kind: str = "application/json") -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"half": ')
    _reset(handler)


def close_early_text(asked: Asked, handler: BaseHTTPRequestHandler) -> None:
    close_early(asked, handler, "text/html")


def reset(_: Asked, handler: BaseHTTPRequestHandler) -> None:
    _reset(handler)


def slow(_: Asked, handler: BaseHTTPRequestHandler) -> None:
    """A byte now and then, and never the end."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    try:
        for _ in range(300):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.1)
    except OSError:  # the client has gone, as it should
        pass
    handler.close_connection = True


def endless(_: Asked, handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.end_headers()
    handler.close_connection = True
    try:
        for _ in range(1_000):
            handler.wfile.write(b"[" * 1_000_000)
    except OSError:
        pass


def bomb(_: Asked, handler: BaseHTTPRequestHandler) -> None:
    """200 kB that unpack to 200 MB."""
    send(handler, gzip.compress(bytes(200_000_000), 1), "application/json", Content_Encoding="gzip")


def garbage(_: Asked, handler: BaseHTTPRequestHandler) -> None:
    send(handler, b"<html>\xff\xfe sorry</html>", "text/html")


def not_packed(_: Asked, handler: BaseHTTPRequestHandler) -> None:
    send(handler, b"this is no gzip", "application/json", Content_Encoding="gzip")


def deep(_: Asked, handler: BaseHTTPRequestHandler) -> None:
    send(handler, b"[" * 200_000, "application/json")


def _reset(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


FAULTS: dict[str, Callable[[Asked, BaseHTTPRequestHandler], None]] = {
    "429": says({"error": "slow down"}, 429),
    "500": says({"error": "oops"}, 500),
    "503 without JSON": lambda _, handler: send(
        handler, b"upstream connect error", "text/plain", 503
    ),
    "garbage": garbage,
    "not what was asked for": says([1, "two"]),
    "another shape": says({"items": 3, "organic": 3, "choices": [{}], "query": {"search": [{}]}}),
    "not packed as it says": not_packed,
    "too deep": deep,
    "closes early": close_early,
    "resets": reset,
    "slow": slow,
    "endless": endless,
    "packed bomb": bomb,
}
