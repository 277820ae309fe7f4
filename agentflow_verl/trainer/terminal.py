"""What a training run shows: our own lines. What verl, vLLM and Ray say goes to a file.

Ray's driver prints whatever any process of the run prints, a thousand lines before the first step.
So the driver's standard output and error are pointed to a file, and a thread follows that file for
lines with our ``MARK``, which it shows where the output went before. A file, not a pipe: whoever
still writes when the driver ends blocks on nothing, and a killed run leaves its log whole.
"""

from __future__ import annotations

import atexit
import io
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

MARK = "agentflow: "
STEP = f"{MARK}step "
POLL_S = 0.2

# Ray puts "(TaskRunnerV1 pid=7)" before a worker's line, in colour where it likes to
_OURS = re.compile(rf"^(?:\x1b\[\d+m)?(?:\([^()]*\))?(?:\x1b\[0m)? *({MARK}.*)$")
_END_OF_LINE = re.compile(r"[\r\n]")


def our_lines(text: str) -> Iterator[str]:
    """The marked lines of ``text``, without what Ray puts before them."""
    for line in _END_OF_LINE.split(text):
        if found := _OURS.match(line):
            yield found[1]


def verl_is_loud(environment: Mapping[str, str]) -> bool:
    """Whether verl's own switch asks for its lines."""
    return environment.get("VERL_LOGGING_LEVEL", "").upper() in ("INFO", "DEBUG")


class QuietTerminal:
    """From ``start`` to ``close``, all output of this process goes to ``log``, and our lines are
    shown. On a terminal a step's line takes the place of the step before.
    """

    def __init__(self, log: Path):
        self.log = log
        self._ended = threading.Event()
        self._follower = threading.Thread(target=self._follow, daemon=True)
        self._saved: tuple[int, int] | None = None
        self._offset = 0
        self._rest = b""
        self._in_place = False

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._offset = os.fstat(file).st_size  # a run that resumes appends
        if isinstance(sys.stdout, io.TextIOWrapper):  # and no stream of a test
            # one that was no terminal would keep a step's line back until its buffer is full
            sys.stdout.reconfigure(line_buffering=True)
        _flush()
        # By descriptor rather than by replacing sys.stdout: Ray's driver threads, vLLM's C++ and
        # child processes write to the descriptors.
        self._saved = os.dup(1), os.dup(2)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.close(file)
        self._follower.start()
        atexit.register(self.close)  # Hydra calls no callback for a run that is interrupted

    def close(self) -> None:
        """Show what is left, and give the output back. Safe to call twice."""
        if self._saved is None:
            return
        _flush()
        self._ended.set()
        self._follower.join()
        if self._in_place:
            os.write(self._saved[0], b"\n")
        for number, saved in enumerate(self._saved, start=1):
            os.dup2(saved, number)
            os.close(saved)
        self._saved = None
        atexit.unregister(self.close)

    def _follow(self) -> None:
        while not self._ended.wait(POLL_S):
            self._show_new()
        self._show_new()

    def _show_new(self) -> None:
        with self.log.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        self._offset += len(new)
        # A line may be half written when it is read; what has no newline yet waits for the next
        # look.
        whole, newline, self._rest = (self._rest + new).rpartition(b"\n")
        for line in our_lines((whole + newline).decode(errors="replace")):
            self._show(line)

    def _show(self, line: str) -> None:
        assert self._saved is not None
        shown = self._saved[0]
        if not os.isatty(shown):
            os.write(shown, f"{line}\n".encode())
            return
        # \x1b[K clears the rest of the line that the new one takes the place of
        start = "\r\x1b[K" if self._in_place and line.startswith(STEP) else ""
        if self._in_place and not start:
            start = "\n"
        self._in_place = line.startswith(STEP)
        os.write(shown, f"{start}{line}{'' if self._in_place else chr(10)}".encode())


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
