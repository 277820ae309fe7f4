"""Shared memory of dead processes goes; everything else stays."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from agentflow_verl.core import shared_memory
from agentflow_verl.core.shared_memory import SHARED_MEMORY, sweep_shared_memory
from agentflow_verl.trainer.resilience import cleanup


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of our own in shared memory, apart from other runs on this machine."""
    if not os.access(SHARED_MEMORY, os.W_OK):
        pytest.skip("no writable /dev/shm")
    with TemporaryDirectory(dir=SHARED_MEMORY, prefix="agentflow_test_") as name:
        yield Path(name)


def segment(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(b"\0" * mmap.PAGESIZE)
    return path


def test_what_no_process_maps_is_removed(folder):
    left = [segment(folder, name) for name in ("psm_0123abcd", "sem.mp-x1", "verl_weights_7")]
    assert sorted(sweep_shared_memory(folder)) == ["psm_0123abcd", "sem.mp-x1", "verl_weights_7"]
    assert not any(path.exists() for path in left)


def test_what_a_process_maps_stays(folder):
    used = segment(folder, "psm_used")
    with used.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        assert sweep_shared_memory(folder) == []
    assert used.exists()
    assert sweep_shared_memory(folder) == ["psm_used"]


def test_weights_on_their_way_go_with_the_process_that_sends_them(folder):
    """And are a minute old: no process need map them."""
    sender = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    left = segment(folder, f"agentflow_weights_{sender.pid}_abc")
    assert sweep_shared_memory(folder) == []
    sender.communicate(b"\n")
    assert sweep_shared_memory(folder) == []
    assert left.exists(), "its sender may live in a container whose processes are not seen here"
    os.utime(left, (time.time() - 61,) * 2)
    assert sweep_shared_memory(folder) == [left.name]


def test_a_semaphore_in_use_stays_though_it_is_mapped_under_another_name():
    lock = multiprocessing.get_context("spawn").Lock()
    name = f"sem.{lock._semlock.name.lstrip('/')}"
    assert (SHARED_MEMORY / name).exists()
    assert name not in sweep_shared_memory()
    assert (SHARED_MEMORY / name).exists()


def test_other_names_stay(folder):
    other = [segment(folder, name) for name in ("plasma", "sem.mine-1", "xpsm_1", "user_psm_1")]
    assert sweep_shared_memory(folder) == []
    assert all(path.exists() for path in other)


def test_another_users_segments_stay(folder, monkeypatch):
    path = segment(folder, "psm_theirs")
    monkeypatch.setattr(shared_memory.os, "getuid", lambda: path.stat().st_uid + 1)
    assert sweep_shared_memory(folder) == []
    assert path.exists()


def test_a_segment_that_goes_by_itself_meanwhile_is_no_error(folder, monkeypatch):
    """Its owner may unlink it between the listing and the look at it."""
    gone = segment(folder, "psm_gone")
    segment(folder, "psm_left")
    listing = list(folder.glob("*"))
    gone.unlink()
    monkeypatch.setattr(
        Path,
        "glob",
        lambda self, pattern: iter(listing) if self == folder else Path.rglob(self, pattern),
    )
    monkeypatch.setattr(shared_memory, "_mapped_inodes", set)
    assert sweep_shared_memory(folder) == ["psm_left"]


def test_an_empty_folder_is_fine(folder):
    assert sweep_shared_memory(folder) == []


def test_the_sweeper_waits_for_processes_that_are_still_ending(folder):
    used = segment(folder, "psm_used")
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            (
                f"import mmap, time; f = open({str(used)!r}, 'r+b'); m = mmap.mmap(f.fileno(), 0);"
                " print(1, flush=True); time.sleep(1)"
            ),
        ],
        stdout=subprocess.PIPE,
    )
    holder.stdout.readline()
    cleanup.sweep_until_gone(folder, wait_s=30)
    assert not used.exists()
    assert holder.wait(10) == 0


def test_the_sweeper_gives_up_on_what_stays_in_use(folder):
    used = segment(folder, "psm_used")
    with used.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        cleanup.sweep_until_gone(folder, wait_s=0.5)
        assert used.exists()


def test_the_sweeper_ends_after_the_process_that_started_it_and_takes_its_temporary_folder_along():
    code = (
        "import os, tempfile\nfrom agentflow_verl.trainer.resilience.cleanup import"
        " sweep_after_this_process, use_own_temporary_folder\nfolder ="
        " use_own_temporary_folder()\ntempfile.NamedTemporaryFile(delete=False)\nprint(folder,"
        " len(os.listdir(folder)), sweep_after_this_process(folder).pid,"
        " flush=True)\nos.kill(os.getpid(), 9)"
    )
    started = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=60, text=True
    )
    folder, files, sweeper = started.stdout.split()
    assert files == "1"
    deadline = time.monotonic() + 60
    while (
        psutil.pid_exists(int(sweeper)) or Path(folder).exists()
    ) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert time.monotonic() < deadline


def test_a_runs_temporary_folder_moves_neither_ray_nor_the_compile_cache(tmp_path, monkeypatch):
    """Ray finds a cluster that was started before through a file in its temporary folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    for name in ("RAY_TMPDIR", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    folder = cleanup.use_own_temporary_folder()
    assert folder.parent == tmp_path and os.environ["TMPDIR"] == str(folder)
    assert os.environ["RAY_TMPDIR"] == str(tmp_path)
    assert Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).parent == tmp_path


def test_rays_processes_of_the_run_do_not_outlive_it_and_others_may(tmp_path):
    def start(title: str, temporary: Path) -> subprocess.Popen:
        return subprocess.Popen(
            ["bash", "-c", f"exec -a {title} sleep 60"],
            env={**os.environ, "TMPDIR": str(temporary)},
        )

    agent, uploader, stranger = (
        start("ray::DashboardAgent", tmp_path),
        start("uploader", tmp_path),
        start("ray::Worker", tmp_path / "other"),
    )
    try:
        time.sleep(0.5)
        assert len(cleanup.end_processes_of(tmp_path, wait_s=0.5)) == 1
        assert agent.wait(10) == -9
        assert uploader.poll() is None and stranger.poll() is None
        assert cleanup.end_processes_of(tmp_path, wait_s=0.5) == []
    finally:
        for process in (agent, uploader, stranger):
            process.kill()
            process.wait()
