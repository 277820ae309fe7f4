"""Reading files of a folder that somebody else made: regular files only, in bounded memory.

A run's folder may hold links that lead nowhere, FIFOs, links to devices that never end, and lines
of several hundred MB. Each is an ``Unreadable`` with its reason, and never a hang.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MAX_LINE_BYTES = 32 << 20  # a trajectory of ten turns with 32,000 tokens each has a quarter of this
SKIPPED_BYTES = 1 << 20  # read at once of a line that is too long


class Unreadable(Exception):
    """A file that cannot be read, and why."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; raises Unreadable for what is not a regular file."""
    try:
        # Without O_NONBLOCK a FIFO would be waited for until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise Unreadable(getattr(error, "strerror", None) or str(error)) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Unreadable("not a regular file")
    return os.fdopen(descriptor, "rb")


def read_bounded(path: Path, limit: int) -> bytes:
    """A whole file. Raises Unreadable also for one above ``limit`` bytes."""
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise Unreadable(f"more than {limit >> 20} MB")
    return content


def complete_lines(file: BinaryIO, offset: int) -> Iterator[tuple[int, bytes | None, int]]:
    """Lines from ``offset`` on that end with a line break: where each begins, its bytes, and where
    the next one begins. None in place of the bytes of a line over ``MAX_LINE_BYTES``.
    """
    file.seek(offset)
    while line := file.readline(MAX_LINE_BYTES):
        if line.endswith(b"\n"):
            yield offset, line, offset + len(line)
            offset += len(line)
        elif len(line) < MAX_LINE_BYTES:
            return  # still being written
        else:
            end = _end_of_line(file, offset + len(line))
            if end is None:
                return
            yield offset, None, end
            offset = end


def _end_of_line(file: BinaryIO, position: int) -> int | None:
    """Skip to the next line; None where the file ends first."""
    while part := file.readline(SKIPPED_BYTES):
        position += len(part)
        if part.endswith(b"\n"):
            return position
    return None
