"""A program is ended together with all that it has started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentflow_verl.core.child_process import ChildProcess, answers, last_lines
from tests.tools.servers import alive, wait_until

ROOT = Path(__file__).resolve().parents[2]
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def start(program: str) -> ChildProcess:
    return ChildProcess(
        [sys.executable, "-c", program], os.environ, stdout=subprocess.PIPE, stderr=None
    )


def test_its_whole_group_ends_with_it() -> None:
    process = start(PARENT)
    output, _ = process.pipes
    assert output is not None
    grandchild = int(output.readline())
    assert not process.exited() and process.returncode is None
    process.terminate()
    assert process.wait(20)
    assert alive(grandchild)
    process.end()
    wait_until(lambda: not alive(grandchild), "what it had started has ended")
    assert process.returncode == -15
    process.end()  # again is harmless
    output.close()


def test_one_that_runs_on_is_said_to() -> None:
    process = start("import time; time.sleep(600)")
    assert not process.wait(0.2)
    process.end()
    assert process.returncode == -9
    process.pipes[0].close()


def test_program_that_is_not_there_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError):
        ChildProcess(["/no/such/program"], {}, stdout=None, stderr=None)


def test_port_without_a_server_answers_nothing() -> None:
    assert not answers(9, "/healthz", 0.5)


def test_last_lines_of_a_log_from_where_it_began(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"before\n" + b"\xff\n" + b"".join(b"%d\n" % n for n in range(5000)))
    assert last_lines(log, 2) == ["4998", "4999"]
    log.write_bytes(b"before\nafter\n")
    assert last_lines(log, 20, start=7) == ["after"]


def test_a_program_that_reads_to_the_end_of_its_input_is_let_go() -> None:
    process = ChildProcess(
        [sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit(7)"],
        os.environ,
        stdin=subprocess.PIPE,
        stdout=None,
        stderr=None,
    )
    assert not process.wait(0.2)
    process.close_input()
    assert process.wait(20)
    process.end()
    assert process.returncode == 7


def test_program_without_a_pipe_has_no_input() -> None:
    process = start("pass")
    with pytest.raises(ValueError, match="without a pipe"):
        _ = process.input
    process.end()
    process.pipes[0].close()


TIED = """
import os, signal, subprocess, sys
from agentflow_verl.core.child_process import ChildProcess
waits = [sys.executable, "-c", "import time; time.sleep(600)"]
reads = [sys.executable, "-c", "import sys; sys.stdin.read()"]
quiet = dict(stdout=subprocess.DEVNULL, stderr=None)
by_kernel = ChildProcess(waits, os.environ, end_with_parent=True, **quiet)
by_pipe = ChildProcess(reads, os.environ, stdin=subprocess.PIPE, **quiet)
# Started later, and so able to inherit the pipe that the one before is tied by.
later = ChildProcess(waits, os.environ, end_with_parent=True, **quiet)
print(by_kernel.pid, by_pipe.pid, later.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_both_ties_end_a_program_when_its_parent_is_killed() -> None:
    parent = subprocess.run(
        [sys.executable, "-c", TIED], cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=60
    )
    pids = [int(pid) for pid in parent.stdout.split()]
    assert len(pids) == 3
    wait_until(lambda: not any(map(alive, pids)), "all three have ended")
