"""Files that hold trajectories, tokens or answers: readable by their owner alone by default.

Modes are given where a file is made and not by the process's umask: a training worker shares its
process with verl, whose checkpoints are not ours to hide.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

PRIVATE = 0o077
"""The umask that leaves nothing to the group and to others."""


def parse_umask(text: str) -> int:
    """``"022"`` as a number. Raises ValueError for anything but three octal digits."""
    if len(text) not in (3, 4) or not set(text) <= set("01234567") or int(text, 8) > 0o777:
        raise ValueError(f"{text!r} is no umask: write three octal digits, such as 022")
    return int(text, 8)


def make_private_folder(folder: Path, umask: int = PRIVATE) -> None:
    """Make ``folder`` and its parents. Those that exist keep their mode."""
    # One by one: ``mkdir(parents=True)`` gives the parents the default mode.
    for path in reversed((folder, *folder.parents)):
        if not path.exists():
            path.mkdir(mode=0o777 & ~umask, exist_ok=True)


def append_private(path: Path, umask: int = PRIVATE) -> IO[str]:
    """Open a text file for appending. One that exists keeps its mode."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, 0o666 & ~umask)

    return open(path, "a", encoding="utf-8", opener=opener)
