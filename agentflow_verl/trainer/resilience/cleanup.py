"""What a run leaves behind outside its folder: shared memory, and files in the system's temporary
folder.

vLLM's message queues (vllm/distributed/device_communicators/shm_broadcast.py) are named ``psm_*``
by Python, and the semaphores of multiprocessing ``sem.mp-*``. Both are removed by their creator;
Ray ends that process with SIGKILL, so even a run that ends well leaves about seven segments and two
semaphores. Weights on their way to SGLang on a CPU are files ``agentflow_weights_PID_…``, which
stay where a run dies meanwhile. vLLM leaves its sockets and verl its lock files too, a dozen a run:
they get a folder of the run's own. Ray's session folders stay where Ray keeps them: they hold the
logs.

A run that is killed cannot sweep: Ray replaces the driver's SIGTERM handler with one that ends it
at once. So a small process waits for the driver's end, however it comes, and sweeps then: ``python
-m agentflow_verl.trainer.resilience.cleanup``.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from agentflow_verl.core.child_process import ChildProcess
from agentflow_verl.core.shared_memory import (
    SHARED_MEMORY,
    WEIGHTS,
    WEIGHTS_AGE_S,
    segments,
    sweep_shared_memory,
)

TITLES = ("ray::", "VLLM::", "sglang::")
GRACE_S = 10.0
"""How long the processes of a killed run may take to end by themselves."""
WAIT_S = 20.0
"""How long the sweeper goes on for what they still held."""


def use_own_temporary_folder() -> Path:
    """Make a temporary folder for this process and every process that it starts. The sweeper
    removes it.
    """
    system = tempfile.gettempdir()
    # else Ray would miss a cluster that was started before
    os.environ.setdefault("RAY_TMPDIR", os.environ.get("TMPDIR", "/tmp"))
    # kernels that torch compiled are shared by runs
    compiled = f"{system}/torchinductor_{getpass.getuser()}"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", compiled)
    folder = tempfile.mkdtemp(prefix="agentflow-", dir=system)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    return Path(folder)


def sweep_after_this_process(folder: Path) -> ChildProcess:
    """Start the sweeper, which waits for the end of a pipe that closes with this process. Removes
    ``folder``.
    """
    return ChildProcess(
        [sys.executable, "-m", "agentflow_verl.trainer.resilience.cleanup", str(folder)],
        os.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=None,
    )


def sweep_until_gone(folder: Path = SHARED_MEMORY, wait_s: float = WAIT_S) -> None:
    """Sweep until everything with such a name that is there now has gone, or ``wait_s`` seconds are
    over.
    """
    there = set(segments(folder))
    deadline = time.monotonic() + wait_s
    while there & set(segments(folder)) and time.monotonic() < deadline:
        sweep_shared_memory(folder)
        time.sleep(0.2)


def remove_until_gone(folder: Path, wait_s: float = WAIT_S) -> None:
    """Remove a folder into which processes that are still ending may write."""
    deadline = time.monotonic() + wait_s
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.2)


def end_processes_of(folder: Path, wait_s: float = GRACE_S) -> list[str]:
    """End processes of Ray, vLLM and SGLang that have ``folder`` as their temporary folder. Returns
    what was killed.

    Others may have something to finish, as a logger that uploads. Ray's own agents of a cluster
    that was ended with its driver ask the dead cluster first, for a minute and more
    (ray/_private/process_watcher.py, report_raylet_error_logs).
    """
    deadline = time.monotonic() + wait_s
    while (left := _processes_of(folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    killed = []
    for process in left:
        with contextlib.suppress(psutil.Error):
            killed.append(process.name())
            process.kill()
    return killed


def _processes_of(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it has ended, or is another user's
            command = process.cmdline()  # empty where it has ended and nobody has waited for it
            if (
                command
                and command[0].startswith(TITLES)
                and process.environ().get("TMPDIR") == str(folder)
            ):
                found.append(process)
    return found


if __name__ == "__main__":
    sys.stdin.buffer.read()
    own = Path(sys.argv[1])
    end_processes_of(own)
    sweep_until_gone()
    remove_until_gone(own)
    if any(WEIGHTS.match(file.name) for file in segments(SHARED_MEMORY)):
        time.sleep(WEIGHTS_AGE_S)
        sweep_shared_memory()
