"""The page over HTTP, for this machine only, updated while the runs write.

/              the page, without data
/index         the table, compressed; 204 while nothing changed since ``?have=VERSION``
/chunk         ``?version=V&number=N``: one chunk; 410 once there is a newer table
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from agentflow_verl.trajectories.run_folder import Run
from agentflow_verl.view.detail import Pieces
from agentflow_verl.view.html import page
from agentflow_verl.view.index import Index

EVERY_S = 2.0  # the least time between two looks at the disk
IDLE_S = 60.0  # a connection on which nothing comes is closed
LOCAL = ("127.0.0.1", "localhost")
GZIP = "application/gzip"
MOST_FIELDS = 16  # of a query

Answer = tuple[HTTPStatus, bytes, str]


class Live:
    """The newest index of some runs, and its version."""

    def __init__(self, runs: Sequence[Run], pieces: Sequence[Pieces]):
        self.runs = runs
        self.pieces = pieces
        self.version = 0
        self.index = Index()
        self.packed = b""
        self._looked = -EVERY_S
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Look at the disk, unless that was done just now."""
        with self._lock:
            if time.monotonic() - self._looked < EVERY_S:
                return
            # A list and not any(...) directly, which would stop at the first run that changed.
            changed = [run.refresh() for run in self.runs]
            if any(changed) or not self.version:
                index = Index()
                for run, pieces in zip(self.runs, self.pieces):
                    index.add(run, pieces)
                self.index, self.packed = index, index.packed()
                self.version += 1
            self._looked = time.monotonic()


class Server(ThreadingHTTPServer):
    """Threads end with the process. A browser that closed its connection is not an error."""

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def server(runs: Sequence[Run], pieces: Sequence[Pieces], port: int) -> ThreadingHTTPServer:
    """Make a server bound to 127.0.0.1; port 0 takes a free one. ``serve_forever`` runs it."""
    live = Live(runs, pieces)
    title = ", ".join(run.name for run in runs)

    class Handler(BaseHTTPRequestHandler):
        timeout = IDLE_S

        def do_GET(self) -> None:
            status, body, kind = respond(live, title, self.headers.get("Host", ""), self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Version", str(live.version))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """One line per request would hide what matters."""

    return Server(("127.0.0.1", port), Handler)


def respond(live: Live, title: str, host: str, target: str) -> Answer:
    """Status, body and content type of one request."""
    try:
        name = urlsplit(f"//{host}").hostname
        url = urlsplit(target)
        query = parse_qs(url.query, max_num_fields=MOST_FIELDS)
    except ValueError:  # such as an address with one bracket
        return _empty(HTTPStatus.BAD_REQUEST)
    # Another site's page may name this server by a domain of its own; its host gives it away.
    if name not in LOCAL:
        return _empty(HTTPStatus.FORBIDDEN)
    values = {field: given[-1] for field, given in query.items()}
    if url.path == "/":
        body = "".join(page(title, None)).encode()
        return HTTPStatus.OK, body, "text/html; charset=utf-8"
    if url.path == "/index":
        live.refresh()
        if values.get("have") == str(live.version):
            return _empty(HTTPStatus.NO_CONTENT)
        return HTTPStatus.OK, live.packed, GZIP
    if url.path == "/chunk":
        return _chunk(live, values.get("version", ""), values.get("number", ""))
    return _empty(HTTPStatus.NOT_FOUND)


def _chunk(live: Live, version: str, number: str) -> Answer:
    current, index = str(live.version), live.index
    # The length first: int() refuses a text of thousands of digits.
    if not number.isdecimal() or len(number) > 9 or int(number) >= len(index.chunks):
        return _empty(HTTPStatus.NOT_FOUND)
    if version != current:
        return _empty(HTTPStatus.GONE)
    return HTTPStatus.OK, index.chunks[int(number)].packed(), GZIP


def _empty(status: HTTPStatus) -> Answer:
    return status, b"", GZIP
