"""One live run per folder: a lock file with the process and host that write to it.

A second run into the same folder would mix its checkpoints and trajectories with the first one's.
A lock whose process has ended is taken over; one of another host is believed for as long as its
run keeps touching it.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import threading
import time
from pathlib import Path

from agentflow_verl.core.errors import ConfigError

NAME = ".agentflow.lock"
TOUCH_EVERY_S = 60.0
STALE_AFTER_S = 10 * TOUCH_EVERY_S


def take_lock(folder: Path, option: str) -> None:
    """Lock ``folder`` until this process ends.

    Raises:
        ConfigError: another run that lives holds it.
    """
    path = folder / NAME
    while not _create(path):
        check_unlocked(folder, option)
        path.unlink(missing_ok=True)  # of a run that has ended
    stop = threading.Event()
    threading.Thread(target=_keep_fresh, args=(path, stop), daemon=True).start()
    atexit.register(_release, path, os.getpid(), stop)


def check_unlocked(folder: Path, option: str) -> None:
    """Raises ConfigError: another run that lives holds the folder's lock."""
    path = folder / NAME
    try:
        holder, age = json.loads(path.read_text()), time.time() - path.stat().st_mtime
        pid, host, began = int(holder["pid"]), str(holder["host"]), str(holder["process_start"])
    except (OSError, ValueError, KeyError, TypeError):
        return  # none, or one that was being written when its machine went down
    if host != socket.gethostname():
        lives = age < STALE_AFTER_S
    else:
        lives = pid != os.getpid() and _process_start(pid) == began != ""
    if lives:
        raise ConfigError(
            f"{option}: a run writes to {folder} already (process {pid} on {host}): wait for it,"
            f" stop it, or choose another {option}"
        )


def _create(path: Path) -> bool:
    """Write the lock, unless there is one."""
    mine = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "process_start": _process_start(os.getpid()),
    }
    try:
        with path.open("x") as file:
            json.dump(mine, file)
    except FileExistsError:
        return False
    return True


def _process_start(pid: int) -> str:
    """When a process started, in the kernel's ticks, so that a reused number is told apart; empty
    where there is none.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]


def _keep_fresh(path: Path, stop: threading.Event) -> None:
    while not stop.wait(TOUCH_EVERY_S):
        try:
            os.utime(path)
        except OSError:
            return


def _release(path: Path, pid: int, stop: threading.Event) -> None:
    if os.getpid() == pid:  # and not a fork of the run
        stop.set()
        path.unlink(missing_ok=True)
