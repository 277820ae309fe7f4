"""The page over HTTP, for this machine only, following runs as they write.

/              the page, without data
/index         the table, compressed; 204 while nothing changed since ``?have=VERSION``
/chunk         ``?version=V&number=N``: one chunk; 410 once there is a newer table
"""

from __future__ import annotations

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
LOCAL = ("127.0.0.1", "localhost")


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
            changed = [run.refresh() for run in self.runs]
            if any(changed) or not self.version:
                index = Index()
                for run, pieces in zip(self.runs, self.pieces):
                    index.add(run, pieces)
                self.index, self.packed = index, index.packed()
                self.version += 1
            self._looked = time.monotonic()


def server(runs: Sequence[Run], pieces: Sequence[Pieces], port: int) -> ThreadingHTTPServer:
    """Bound to 127.0.0.1; port 0 takes a free one. ``serve_forever`` runs it."""
    live = Live(runs, pieces)
    title = ", ".join(run.name for run in runs)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # Another site's page may name this server by a domain of its own; its host gives it
            # away.
            if urlsplit(f"//{self.headers.get('Host', '')}").hostname not in LOCAL:
                return self._send(HTTPStatus.FORBIDDEN)
            url = urlsplit(self.path)
            asked = {name: values[-1] for name, values in parse_qs(url.query).items()}
            if url.path == "/":
                return self._send(
                    HTTPStatus.OK, "".join(page(title, None)).encode(), "text/html; charset=utf-8"
                )
            if url.path == "/index":
                live.refresh()
                if asked.get("have") == str(live.version):
                    return self._send(HTTPStatus.NO_CONTENT)
                return self._send(HTTPStatus.OK, live.packed)
            if url.path == "/chunk":
                version, index = live.version, live.index
                number = asked.get("number", "")
                if not number.isdecimal() or int(number) >= len(index.chunks):
                    return self._send(HTTPStatus.NOT_FOUND)
                if asked.get("version") != str(version):
                    return self._send(HTTPStatus.GONE)
                return self._send(HTTPStatus.OK, index.chunks[int(number)].packed())
            self._send(HTTPStatus.NOT_FOUND)

        def _send(
            self, status: HTTPStatus, body: bytes = b"", kind: str = "application/gzip"
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Version", str(live.version))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A line a request would hide what matters."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)
