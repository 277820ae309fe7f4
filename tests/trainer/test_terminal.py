"""A run's terminal shows our lines; the file has everything."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from agentflow_verl.trainer.terminal import our_lines, verl_is_loud

PROGRAM = """
import os, sys
from pathlib import Path
from agentflow_verl.trainer.terminal import QuietTerminal

print("before")
terminal = QuietTerminal(Path(sys.argv[1]))
terminal.start()
print("INFO vllm: loading")
print("agentflow: resumed from step 3")
os.system("echo a child of it; echo 'agentflow: step 4/5 | success 10%' >&2")
print("\\x1b[36m(TaskRunnerV1 pid=7)\\x1b[0m agentflow: step 5/5 | success 20%", file=sys.stderr)
END
"""
QUIET = [
    "agentflow: resumed from step 3",
    "agentflow: step 4/5 | success 10%",
    "agentflow: step 5/5 | success 20%",
]


def program(end: str = "terminal.close()\nprint('after')") -> str:
    return PROGRAM.replace("END", end)


def run(log: Path, text: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", text, str(log)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_only_our_lines_are_shown_and_all_lines_are_kept(tmp_path):
    log = tmp_path / "run" / "run.log"
    ended = run(log, program())
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["before", *QUIET, "after"]
    kept = log.read_text()
    assert "INFO vllm: loading" in kept and "a child of it" in kept
    assert "before" not in kept and "after" not in kept


def test_a_run_that_resumes_shows_nothing_of_the_one_before(tmp_path):
    log = tmp_path / "run.log"
    log.write_text("agentflow: step 3/5 | success 5%\n")
    assert run(log, program()).stdout.splitlines() == ["before", *QUIET, "after"]
    assert log.read_text().startswith("agentflow: step 3/5")


@pytest.mark.parametrize("end", ["raise KeyboardInterrupt", "sys.exit(3)"])
def test_a_run_that_is_interrupted_has_shown_its_lines(tmp_path, end):
    ended = run(tmp_path / "run.log", program(end))
    assert ended.returncode != 0
    assert ended.stdout.splitlines() == ["before", *QUIET]


def test_on_a_terminal_a_step_takes_the_place_of_the_step_before(tmp_path):
    reader, terminal = pty.openpty()
    command = [sys.executable, "-c", program(), str(tmp_path / "run.log")]
    subprocess.run(command, stdout=terminal, stderr=terminal, timeout=300, check=True)
    os.close(terminal)
    shown = os.read(reader, 10_000).decode().replace("\r\n", "\n")
    os.close(reader)
    first, second = QUIET[1:]
    assert shown == f"before\n{QUIET[0]}\n{first}\r\x1b[K{second}\nafter\n"


def test_a_line_of_ours_is_told_by_its_mark_wherever_ray_put_it():
    text = (
        "\x1b[36m(TaskRunnerV1 pid=7)\x1b[0m agentflow: step 1/2\n"
        "(TaskRunnerV1 pid=7, ip=10.0.0.1) agentflow: a server is gone\n"
        "Training Progress:  50%|#####     | 1/2\r                \ragentflow: step 2/2\n"
        "INFO: agentflow: not at the start\n"
        "agentflow is a package\n"
    )
    assert list(our_lines(text)) == [
        "agentflow: step 1/2",
        "agentflow: a server is gone",
        "agentflow: step 2/2",
    ]


@pytest.mark.parametrize(("level", "loud"), [("INFO", True), ("debug", True), ("WARN", False)])
def test_verls_own_switch_restores_its_lines(level, loud):
    assert verl_is_loud({"VERL_LOGGING_LEVEL": level}) is loud
    assert verl_is_loud({}) is False
