"""vLLM's server as a child: what it says when it does not start, and that nothing of it stays. The real one, too."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agentflow_verl.cli import main
from agentflow_verl.errors import ConfigError
from agentflow_verl.evaluation.vllm_server import VllmServer
from tests.tools.servers import alive, wait_until

from .fakes import write_questions
from .test_eval import report, stopped, without_times

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "recipes" / "quickstart" / "base"

# Answers /health like vLLM does, has a child of its own, and takes as long to end as it likes.
STAND_IN = """
import http.server, os, subprocess, sys, signal
stubborn = "--stubborn" in sys.argv
if stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
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
    return [int(line.split()[1]) for line in log.read_text().splitlines() if line.startswith("child")]


@pytest.mark.parametrize("args", [(), ("--stubborn",)])
def test_it_and_what_it_started_are_gone_afterwards(stand_in, args, monkeypatch):
    monkeypatch.setattr("agentflow_verl.evaluation.vllm_server.STOP_TIMEOUT_S", 1.0)
    with VllmServer("base", "some/model", args, stand_in) as server:
        server.wait(60)
        pids = [server._process.pid, *processes(stand_in / "vllm_base.log")]
        assert len(pids) == 2 and all(map(alive, pids))
    wait_until(lambda: not any(map(alive, pids)), "both are gone")


def test_it_ends_with_a_parent_that_is_killed(stand_in):
    program = (
        "from pathlib import Path; import sys, time\n"
        "from agentflow_verl.evaluation.vllm_server import VllmServer\n"
        "with VllmServer('base', 'some/model', (), Path(sys.argv[1])) as server:\n"
        "    server.wait(60); print(server._process.pid, flush=True); time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(stand_in)], stdout=subprocess.PIPE, cwd=ROOT, text=True)
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not alive(pid), "the server is gone")
    for left in processes(stand_in / "vllm_base.log"):  # vLLM ends its own when it gets SIGTERM; the stand-in does not
        os.kill(left, signal.SIGKILL)


def test_one_that_dies_says_its_last_words(stand_in):
    (stand_in / "packages" / "vllm" / "entrypoints" / "openai" / "api_server.py").write_text("raise SystemExit('no such device')")
    with VllmServer("base", "some/model", (), stand_in) as server, pytest.raises(ConfigError, match="(?s)ended with status 1.*no such device"):
        server.wait(60)


def test_one_that_never_answers_is_given_up(stand_in):
    (stand_in / "packages" / "vllm" / "entrypoints" / "openai" / "api_server.py").write_text("import time; time.sleep(600)")
    with VllmServer("base", "some/model", (), stand_in) as server, pytest.raises(ConfigError, match="does not answer after 0 s"):
        server.wait(0.2)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_the_quickstarts_base_is_evaluated_by_a_real_server_and_a_killed_run_ends_the_same(tmp_path, monkeypatch, capsys):
    """A slice of its own questions on whatever device vLLM was built for; python_coder and search are real too."""
    for name, value in {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    numbers = ((186, 2), (231, 77), (44, 44), (35, 7), (15, 1), (36, 4))
    data = write_questions(
        tmp_path / "data",
        gcd=[{"question": f"What is the greatest common divisor of {a} and 308?", "answer": b, "data_source": "gsm8k"} for a, b in numbers],
        topic=[{"question": "Under which topic is Riga filed?", "answer": "Geography", "data_source": "nq"}],
    )
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(json.dumps({"title": "Riga", "text": "Topic: Geography. Capital of Latvia."}) + "\n")
    given = ["eval", "--benchmarks", "gcd,topic", "--data", str(data), "--model", str(BASE), "--trials", "2", "--max-turns", "3",
             "--temperature", "1", "--max-tokens", "96", "--memory-tokens", "300", "--tool", "python_coder --jobs 2",
             "--tool", f"wikipedia_search --corpus {corpus} --k 1 --passage-chars 50", "--concurrency", "2",
             "--vllm-args", "--dtype float32 --max-model-len 512 --max-num-seqs 4 --enforce-eager --use-fp64-gumbel", "--out"]  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*given, str(whole)]) == 0, capsys.readouterr().err
    found = report(whole)
    assert found["overall"]["complete"] and found["overall"]["faults"] == 0 and found["overall"]["trajectories"] == 14
    assert found["overall"]["outcomes"]["malformed"] == 0.0
    assert set(found["overall"]["tool_mix"]) <= {"python_coder", "wikipedia_search"} and found["overall"]["tool_mix"]
    assert len(found["header"]["engines"]["policy"]["sha256"]) == 64
    assert stopped([*given, str(cut)], cut, signal.SIGKILL) == -signal.SIGKILL
    assert main([*given, str(cut)]) == 0, capsys.readouterr().err
    assert len(report(cut)["header"]["sessions"]) == 2
    assert without_times(report(cut)) == without_times(found)
