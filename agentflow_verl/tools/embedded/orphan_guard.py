"""The supervising process's end of the pipe to orphan_reaper.py."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

from agentflow_verl.core.child_process import ChildProcess
from agentflow_verl.tools.embedded import orphan_reaper

CLOSE_TIMEOUT_S = 30.0


class OrphanGuard:
    """Names the process groups that must not outlive this process. Not for several threads."""

    def __init__(self) -> None:
        self._process: ChildProcess | None = None

    def start(self) -> None:
        """Start the process that watches."""
        self._process = ChildProcess(
            # Isolated and without site-packages: it starts fast and depends on nothing of ours.
            [sys.executable, "-I", "-S", orphan_reaper.__file__],
            os.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=None,
        )

    def watch(self, pid: int) -> None:
        """End the process group of this leader with us."""
        self._say(f"+{pid}\n")

    def forget(self, pid: int) -> None:
        """The group is gone; its number may soon be somebody else's."""
        self._say(f"-{pid}\n")

    def close(self) -> None:
        """End the reaper, and with it whatever was not forgotten."""
        if self._process is not None:
            self._process.close_input()
            self._process.wait(CLOSE_TIMEOUT_S)
            self._process.end()
            self._process = None

    def _say(self, line: str) -> None:
        if self._process is not None:
            # Broken where the reaper was killed: the servers still have the kernel's signal.
            with contextlib.suppress(BrokenPipeError):
                # Unbuffered and shorter than PIPE_BUF, so it arrives whole even if we die now.
                os.write(self._process.input.fileno(), line.encode())
