"""Ends the process groups of embedded servers when the process that supervises them ends, however
that happens.

A server asks the kernel for a signal when its parent ends, but the helpers that it has started may
not, and a program of a user's may not know how. So a process of its own, started as a script with
nothing but the standard library, holds the read end of a pipe that closes with the supervising
process: ``+PID`` and ``-PID`` lines say which groups to end then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable


class Guard:
    """The supervising process's end of the pipe. Not for several threads."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process that watches."""
        self._process = subprocess.Popen(
            # Isolated and without site-packages: it starts fast and depends on nothing of ours.
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal is not for it
        )

    def watch(self, pid: int) -> None:
        """End the process group of this leader with us."""
        self._say(f"+{pid}\n")

    def forget(self, pid: int) -> None:
        """The group is gone; its number may soon be somebody else's."""
        self._say(f"-{pid}\n")

    def close(self) -> None:
        """End the guard, and with it whatever was not forgotten."""
        if self._process is not None:
            self._process.communicate()  # closes the pipe and waits
            self._process = None

    def _say(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            # Broken where it was killed: the servers still have the kernel's signal.
            with contextlib.suppress(BrokenPipeError):
                os.write(self._process.stdin.fileno(), line.encode())


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
