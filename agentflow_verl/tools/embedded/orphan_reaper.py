"""Ends the process groups of embedded servers when the process that supervises them ends, however
that happens.

A server asks the kernel for a signal when its parent ends, but the helpers that it has started may
not, and a program of a user's may not know how. So a process of its own, started by
orphan_guard.py as a script with nothing but the standard library, holds the read end of a pipe that
closes with the supervising process: ``+PID`` and ``-PID`` lines say which groups to end then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable


def left_over(lines: Iterable[str]) -> set[int]:
    """The groups that were watched and not forgotten when the lines ended."""
    watched: set[int] = set()
    for line in lines:
        pid = int(line[1:])
        if line[0] == "+":
            watched.add(pid)
        else:
            watched.discard(pid)
    return watched


def main() -> None:
    for group in left_over(sys.stdin):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
