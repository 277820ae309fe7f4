"""Shared memory that engines leave behind: vLLM's message queues (``psm_*``, named by Python), the
semaphores of multiprocessing (``sem.mp-*``), verl's and our weights on their way. Their creators
remove them, unless they are killed first.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")
PREFIXES = ("psm_", "sem.mp-", "verl_weights_")
WEIGHTS = re.compile(r"agentflow_weights_(\d+)_")
"""Weights on their way (cpu/sglang.py), and the process that sends them. The receiver maps such a
file only once it reads it, so its sender must be dead, too."""
WEIGHTS_AGE_S = 60.0
"""How old they must be: a sender in a container that shares /dev/shm, and not the processes' ids,
looks dead from here."""

logger = logging.getLogger(__name__)


def sweep_shared_memory(folder: Path = SHARED_MEMORY) -> list[str]:
    """Remove this user's segments with such a name that no living process maps. Returns the names
    removed.
    """
    ours = segments(folder)
    mapped = _mapped_inodes() if ours else set()
    removed = []
    for file, (inode, age_s) in ours.items():
        if inode not in mapped and not (WEIGHTS.match(file.name) and age_s < WEIGHTS_AGE_S):
            file.unlink(missing_ok=True)
            removed.append(file.name)
    if removed:
        logger.info("removed %d shared-memory segments of processes that are gone", len(removed))
    return removed


def segments(folder: Path) -> dict[Path, tuple[int, float]]:
    """This user's segments with such a name, their inodes, and the seconds since they changed."""
    ours = {}
    for file in folder.glob("*"):
        if file.name.startswith(PREFIXES) or _sender_is_dead(file.name):
            with contextlib.suppress(FileNotFoundError):  # its owner was quicker
                found = file.stat()
                if found.st_uid == os.getuid():
                    ours[file] = found.st_ino, time.time() - found.st_mtime
    return ours


def _sender_is_dead(name: str) -> bool:
    sender = WEIGHTS.match(name)
    return sender is not None and not psutil.pid_exists(int(sender[1]))


def _mapped_inodes() -> set[int]:
    """By number, not by name: glibc maps a new semaphore under another name than it then gets."""
    inodes: set[int] = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            lines = maps.read_text(errors="replace").splitlines()
        except OSError:  # the process ended, or is another user's
            continue
        inodes.update(int(line.split()[4]) for line in lines if "/dev/shm/" in line)
    return inodes
