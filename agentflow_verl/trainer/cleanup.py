"""Shared memory that a run leaves behind.

vLLM's message queues (vllm/distributed/device_communicators/shm_broadcast.py) are named ``psm_*`` by Python, and the
semaphores of multiprocessing ``sem.mp-*``. Both are removed by their creator; Ray ends that process with SIGKILL, so
even a run that ends well leaves about seven segments and two semaphores.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
PREFIXES = ("psm_", "sem.mp-", "verl_weights_")

logger = logging.getLogger(__name__)


def sweep_shared_memory(folder: Path = SHARED_MEMORY) -> list[str]:
    """Remove this user's segments with such a name that no living process maps. Returns the names removed."""
    ours = {file: found.st_ino for file in folder.glob("*") if file.name.startswith(PREFIXES) and (found := _ours(file))}
    mapped = _mapped_inodes() if ours else set()
    removed = []
    for file, inode in ours.items():
        if inode not in mapped:
            file.unlink(missing_ok=True)
            removed.append(file.name)
    if removed:
        logger.info("removed %d shared-memory segments of processes that are gone", len(removed))
    return removed


def _ours(file: Path) -> os.stat_result | None:
    try:
        found = file.stat()
    except FileNotFoundError:  # its owner was quicker
        return None
    return found if found.st_uid == os.getuid() else None


def _mapped_inodes() -> set[int]:
    """By number, not by name: glibc maps a new semaphore under another name than it then gets."""
    inodes = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            lines = maps.read_text(errors="replace").splitlines()
        except OSError:  # the process ended, or is another user's
            continue
        inodes.update(int(line.split()[4]) for line in lines if "/dev/shm/" in line)
    return inodes
