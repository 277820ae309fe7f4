"""A program is ended together with all that it has started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentflow_verl.core.child_process import ChildProcess, answers, last_lines
from tests.tools.servers import alive, wait_until

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
