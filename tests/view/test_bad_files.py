"""One bad file of a run costs its panel, not the page; hostile requests are answered with 4xx."""

from __future__ import annotations

import gzip
import json
import os
import socket
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from agentflow_verl.cli import view as command
from agentflow_verl.cli.main import main
from agentflow_verl.trajectories import run_folder, safe_files
from agentflow_verl.trajectories.run_folder import Run
from agentflow_verl.trajectories.safe_files import Unreadable, read_bounded
from agentflow_verl.view.detail import Pieces
from agentflow_verl.view.index import Index
from tests.view.logs import scored, trajectory, write


def log_folder(folder: Path) -> Path:
    """A run with one trajectory; the folder of its log's step."""
    write(folder, scored(trajectory()))
    return next(folder.glob("trajectories/train/step_*"))


def table_of(folder: Path) -> dict:
    run = Run(folder)
    run.refresh()
    index = Index()
    index.add(run, Pieces(run.tokenizer))
    for chunk in index.chunks:
        gzip.decompress(chunk.packed())
    return json.loads(gzip.decompress(index.packed()))


def fifo(path: Path) -> None:
    os.mkfifo(path)


def dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def endless_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def folder(path: Path) -> None:
    path.mkdir()


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 64 + b"\n")


def latin_1(path: Path) -> None:
    path.write_bytes('{"step": "été"}\n'.encode("latin-1"))


def nested(path: Path) -> None:
    path.write_text("[" * 200_000 + "\n")


KINDS = (fifo, dangling_link, endless_device, link_to_itself, folder, binary, latin_1, nested)
PLACES = (
    "trajectories/train/step_000001/other.jsonl",
    "metrics.jsonl",
    "hydra/.hydra/config.yaml",
    "checkpoints/tokenizer.json",
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("make", KINDS)
def test_the_rest_of_the_run_is_shown(tmp_path, make, place):
    log_folder(tmp_path)
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)
    table = table_of(tmp_path)
    assert table["trajectories"]["session"] == [0]
    assert main(["view", str(tmp_path), "--out", str(tmp_path / "page" / "view.html")]) == 0


@pytest.mark.parametrize("make", [fifo, dangling_link, endless_device, binary])
@pytest.mark.parametrize("place", PLACES[:2])
def test_what_is_not_read_is_noted_with_its_reason(tmp_path, make, place):
    log_folder(tmp_path)
    make(tmp_path / place)
    (note,) = table_of(tmp_path)["runs"][0]["notes"]
    assert place in note and "\n" not in note


def test_a_line_of_hundreds_of_megabytes_is_skipped_in_bounded_memory(tmp_path, monkeypatch):
    """As with 64 MB for the limit of 32; here a tenth of both, to be quick."""
    monkeypatch.setattr(safe_files, "MAX_LINE_BYTES", 3 << 20)
    step = log_folder(tmp_path)
    (good,) = step.glob("*.jsonl")
    line = good.read_bytes()
    with (step / "large.jsonl").open("wb") as file:
        file.write(b'{"step": 1, "query": "')
        for _ in range(64):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n')
        file.write(line.replace(b'"session":0', b'"session":1'))
    run = Run(tmp_path)
    tracemalloc.start()
    run.refresh()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sorted(entry.session for entry in run.entries) == [0, 1]
    assert "large.jsonl" in run.notes[0]
    assert peak < 24 << 20


def test_a_metrics_file_is_read_up_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "MAX_METRICS_BYTES", 2000)
    log_folder(tmp_path)
    rows = [json.dumps({"step": step, "data": {"a": step}}) for step in range(1000)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    table = table_of(tmp_path)
    assert 0 < len(table["runs"][0]["curves"]["a"]) < 200
    assert "only its first" in table["runs"][0]["notes"][0]


@pytest.mark.parametrize(
    "row",
    [
        '{"step": 1e999, "data": {"a": 1}}',
        '{"step": NaN, "data": {"a": 1}}',
        '{"step": 1, "data": {"a": Infinity, "b": -1e999, "c": NaN}}',
        '{"step": 1, "data": {"a": 1' + "0" * 400 + "}}",
        '{"step": 1, "data": {"\\ud800": 1}}',
        '{"step": 1, "data": [1, 2]}',
        '{"step": 1, "data": {"a": 1' + "0" * 5000 + "}}",
        '{"step": null, "data": null}',
    ],
)
def test_odd_numbers_and_names_in_metrics(tmp_path, row):
    log_folder(tmp_path)
    (tmp_path / "metrics.jsonl").write_text(row + "\n")
    assert table_of(tmp_path)["trajectories"]["session"] == [0]


@pytest.mark.parametrize(
    "config",
    [
        "[1, 2]",
        "text",
        "",
        "a: [",
        "agentflow: null",
        "algorithm: 3",
        "agentflow: {flow_grpo: {eps: text}}",
        "agentflow: {flow_grpo: {min_group: 0, eps: .nan}}",
        "actor_rollout_ref: {model: {path: [1]}}",
        "actor_rollout_ref: {model: {path: " + "x" * 5000 + "}}",
        'actor_rollout_ref: {model: {path: "a\\0b"}}',
    ],
)
def test_odd_configurations(tmp_path, config):
    log_folder(tmp_path)
    path = tmp_path / ".hydra" / "config.yaml"
    path.parent.mkdir()
    path.write_text(config)
    assert table_of(tmp_path)["trajectories"]["session"] == [0]


def test_a_name_that_is_no_text_is_shown_as_far_as_it_goes(tmp_path):
    run = tmp_path / os.fsdecode(b"run\xff\xfe")
    log_folder(run)
    page = tmp_path / "view.html"
    assert main(["view", str(run), "--out", str(page)]) == 0
    assert "run\ufffd" in page.read_text(encoding="utf-8")


def test_a_log_that_is_cut_while_the_server_runs_keeps_the_page(tmp_path):
    step = log_folder(tmp_path)
    run = Run(tmp_path)
    run.refresh()
    index = Index()
    index.add(run, Pieces(None))
    (file,) = step.glob("*.jsonl")
    file.write_bytes(b"")
    (chunk,) = index.chunks
    (shown,) = json.loads(gzip.decompress(chunk.packed()))["trajectories"]
    assert "cannot be read: it changed on disk" in shown["error"]


def test_a_single_trajectory_as_solve_writes_it(tmp_path, capsys):
    file = tmp_path / "trajectory.json"
    file.write_text(trajectory("What is it?").model_dump_json(indent=2) + "\n")
    assert main(["view", str(file)]) == 0
    assert "1 trajectories" in capsys.readouterr().out
    table = table_of(file)
    assert table["groups"]["query"] == ["What is it?"]
    assert table["trajectories"]["reward"] == [None]
    assert (tmp_path / "trajectory.html").is_file()


def test_a_failed_trajectorys_reason_is_in_the_table(tmp_path):
    failed = trajectory().model_copy(update={"error": "the server is gone", "answer": ""})
    write(tmp_path, scored(failed, reward=None))
    assert table_of(tmp_path)["trajectories"]["error"] == ["the server is gone"]


def test_a_file_above_its_limit_is_refused(tmp_path):
    (tmp_path / "large").write_bytes(b"x" * 101)
    assert len(read_bounded(tmp_path / "large", 101)) == 101
    with pytest.raises(Unreadable, match="more than"):
        read_bounded(tmp_path / "large", 100)


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    log_folder(folder)
    server = command.serve([folder], None, 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def status_of(port: int, target: str, host: str = "localhost") -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        request = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode("latin-1"))
        answer = b""
        while b"\r\n" not in answer:
            part = connection.recv(4096)
            assert part, "the server closed the connection without an answer"
            answer += part
    return int(answer.split()[1])


@pytest.mark.parametrize(
    "host",
    [
        "[::1",
        "]",
        "[",
        "[x]",
        "a@[",
        "evil.example",
        "127.0.0.1.evil.example",
        "",
        "localhost@evil",
    ],
)
def test_a_hostile_host_is_refused(port, host):
    assert 400 <= status_of(port, "/", host) < 500


@pytest.mark.parametrize(
    "number",
    ["-1", "1e9", "9" * 5000, "²", "٣", "0x0", "nan", "%00", "1%2F2", "", "99999999999999999999"],
)
def test_a_hostile_number_is_refused(port, number):
    number = number.encode().decode("latin-1")
    assert 400 <= status_of(port, f"/chunk?version=1&number={number}") < 500


@pytest.mark.parametrize(
    "target", ["//[", "http://[::1/", "/%2e%2e/etc/passwd", "/index?" + "a=b&" * 100, "/?[", "*"]
)
def test_a_hostile_address_is_refused_or_answered(port, target):
    assert status_of(port, target) in (200, 400, 403, 404)


def test_a_silent_connection_does_not_hold_up_the_others(port):
    with socket.create_connection(("127.0.0.1", port)):
        started = time.monotonic()
        assert status_of(port, "/") == 200
        assert time.monotonic() - started < 10
