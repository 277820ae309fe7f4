"""Shared memory that a run leaves behind.

vLLM's message queues (vllm/distributed/device_communicators/shm_broadcast.py) are named ``psm_*`` by Python and are
removed by their creator; Ray ends that process with SIGKILL, so even a run that ends well leaves about seven.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
PREFIXES = ("psm_", "verl_weights_")

logger = logging.getLogger(__name__)


def sweep_shared_memory(folder: Path = SHARED_MEMORY) -> list[str]:
    """Remove this user's segments with such a name that no living process maps. Returns the names removed."""
    ours = [file for file in folder.glob("*") if file.name.startswith(PREFIXES) and _owner(file) == os.getuid()]
    mapped = _mapped_names() if ours else set()
    removed = []
    for file in ours:
        if file.name not in mapped:
            file.unlink(missing_ok=True)
            removed.append(file.name)
    if removed:
        logger.info("removed %d shared-memory segments of processes that are gone", len(removed))
    return removed


def _owner(file: Path) -> int | None:
    try:
        return file.stat().st_uid
    except FileNotFoundError:  # its owner was quicker
        return None


def _mapped_names() -> set[str]:
    names = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            lines = maps.read_text(errors="replace").splitlines()
        except OSError:  # the process ended, or is another user's
            continue
        names.update(line.rsplit("/", 1)[1].split(" ")[0] for line in lines if "/dev/shm/" in line)
    return names
