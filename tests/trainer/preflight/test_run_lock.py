"""One live run per folder; a lock whose run has ended is taken over."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trainer.preflight import run_lock
from agentflow_verl.trainer.preflight.run_lock import NAME, check_unlocked, take_lock

OPTION = "trainer.default_local_dir"
HOLD = """
import sys, time
from pathlib import Path
from agentflow_verl.trainer.preflight.run_lock import take_lock
take_lock(Path(sys.argv[1]), "trainer.default_local_dir")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its input is closed."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_of_a_live_run_is_refused_with_its_process_and_host(tmp_path, holder):
    with pytest.raises(ConfigError) as raised:
        take_lock(tmp_path, OPTION)
    said = str(raised.value)
    assert said.startswith(f"{OPTION}: a run writes to {tmp_path} already")
    assert f"process {holder.pid} on {socket.gethostname()}" in said
    assert "\n" not in said


def test_the_lock_goes_with_its_run(tmp_path, holder):
    holder.stdin.close()
    holder.wait(30)
    assert not (tmp_path / NAME).exists()
    check_unlocked(tmp_path, OPTION)


def test_the_lock_of_a_killed_run_is_taken_over(tmp_path, holder):
    holder.kill()
    holder.wait(30)
    assert (tmp_path / NAME).exists()
    take_lock(tmp_path, OPTION)
    assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()


def test_a_process_may_ask_again_for_what_it_holds(tmp_path):
    take_lock(tmp_path, OPTION)
    check_unlocked(tmp_path, OPTION)
    take_lock(tmp_path, OPTION)


def write_lock(folder: Path, **holder: object) -> None:
    mine = {"pid": 1, "host": socket.gethostname(), "process_start": "0"}
    (folder / NAME).write_text(json.dumps({**mine, **holder}))


def test_a_number_that_another_process_got_later_does_not_count(tmp_path):
    write_lock(tmp_path, pid=os.getppid(), process_start="1")
    take_lock(tmp_path, OPTION)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "host": "y"}'])
def test_a_lock_that_cannot_be_read_is_taken_over(tmp_path, content):
    (tmp_path / NAME).write_text(content)
    take_lock(tmp_path, OPTION)


def test_a_run_on_another_host_is_believed_while_it_touches_its_lock(tmp_path):
    write_lock(tmp_path, host="elsewhere")
    with pytest.raises(ConfigError, match="on elsewhere"):
        check_unlocked(tmp_path, OPTION)
    old = time.time() - run_lock.STALE_AFTER_S - 1
    os.utime(tmp_path / NAME, (old, old))
    check_unlocked(tmp_path, OPTION)


def test_a_live_run_keeps_its_lock_fresh(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "TOUCH_EVERY_S", 0.05)
    take_lock(tmp_path, OPTION)
    os.utime(tmp_path / NAME, (1, 1))
    ends = time.monotonic() + 10
    while (tmp_path / NAME).stat().st_mtime < 2:
        assert time.monotonic() < ends
        time.sleep(0.02)
