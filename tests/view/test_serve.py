"""The server hands out the page, follows a run, and answers this machine only."""

from __future__ import annotations

import gzip
import json
import threading
import urllib.error
import urllib.request
from http.client import HTTPConnection

import pytest

from agentflow_verl.cli import view as command
from agentflow_verl.view import serve
from tests.view.logs import RUN, scored, trajectory, write


@pytest.fixture
def open_server(monkeypatch):
    monkeypatch.setattr(serve, "EVERY_S", 0.0)
    running = []

    def start(folder):
        server = command.serve([folder], None, 0)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        running.append((server, thread))
        return server.server_port

    yield start
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, answer.headers.get("X-Version"), answer.read()


def test_the_page_comes_without_data_and_may_ask_its_server(open_server):
    status, _, body = get(open_server(RUN), "/")
    assert status == 200
    assert b"connect-src 'self'" in body
    assert b'id="index"' not in body.split(b"<script>")[0]


def test_a_table_is_sent_once_a_version(open_server, tmp_path):
    port = open_server(write(tmp_path, scored(trajectory())))
    status, version, body = get(port, "/index?have=")
    assert status == 200
    assert len(json.loads(gzip.decompress(body))["trajectories"]["session"]) == 1
    assert get(port, f"/index?have={version}")[0] == 204

    write(tmp_path, scored(trajectory(), session=1))
    status, newer, body = get(port, f"/index?have={version}")
    assert status == 200
    assert newer != version
    assert json.loads(gzip.decompress(body))["trajectories"]["session"] == [0, 1]


def test_a_chunk_belongs_to_its_version(open_server, tmp_path):
    port = open_server(write(tmp_path, scored(trajectory())))
    _, version, _ = get(port, "/index?have=")
    _, _, body = get(port, f"/chunk?version={version}&number=0")
    assert len(json.loads(gzip.decompress(body))["trajectories"]) == 1
    for path, status in (
        (f"/chunk?version={int(version) - 1}&number=0", 410),
        (f"/chunk?version={version}&number=7", 404),
        ("/etc/passwd", 404),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(port, path)
        assert refused.value.code == status


def test_a_run_that_has_written_nothing_yet_is_followed(open_server, tmp_path):
    port = open_server(tmp_path)
    _, version, body = get(port, "/index?have=")
    assert json.loads(gzip.decompress(body))["trajectories"] == {}
    write(tmp_path, scored(trajectory()))
    assert get(port, f"/index?have={version}")[0] == 200


@pytest.mark.parametrize(
    ("host", "status"), [("localhost:1", 200), ("evil.example", 403), ("evil.example:8765", 403)]
)
def test_another_sites_name_for_this_machine_is_refused(open_server, host, status):
    connection = HTTPConnection("127.0.0.1", open_server(RUN))
    connection.request("GET", "/", headers={"Host": host})
    assert connection.getresponse().status == status
    connection.close()
