"""A program that this process starts, probes and ends together with all that it has started."""

from __future__ import annotations

import ctypes
import http.client
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.05
_LAST_BYTES = 8192


class ChildProcess:
    """A running program in a session, and so a process group, of its own.

    ``end`` takes the whole group. A process that is killed cannot call it, so each program is also
    tied to this process in one of two ways (docs/decisions/child_processes.md):

    ``end_with_parent``
        The kernel sends SIGTERM. It does so when the *thread* that forked ends (prctl(2),
        PR_SET_PDEATHSIG), so that thread must live as long as the program should.
    ``stdin=subprocess.PIPE``
        The program reads its standard input to the end, which comes when this process ends, however
        it ends. For programs that any thread may start, and for those that clean up after this
        process and so must outlive it for a moment.

    Raises ``OSError`` if the program cannot be run.
    """

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        stdout: int | IO[bytes] | None,
        stderr: int | IO[bytes] | None,
        end_with_parent: bool = False,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        # The pipe to it closes on exec (PEP 446): a program that is started later holds no copy
        # that would keep it open beyond this process.
        self._process = subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=dict(env),
            # Ctrl-C in a terminal goes to the foreground group; this process decides what it means.
            start_new_session=True,
            preexec_fn=_ending_with(os.getpid()) if end_with_parent else None,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its status, minus the signal's number where one ended it; None before ``end``."""
        return self._process.returncode

    @property
    def pipes(self) -> tuple[IO[bytes] | None, IO[bytes] | None]:
        """Standard output and error, where they are pipes."""
        return self._process.stdout, self._process.stderr

    @property
    def input(self) -> IO[bytes]:
        """Standard input, for a program that was started with ``stdin=subprocess.PIPE``."""
        if self._process.stdin is None:
            raise ValueError("the program was started without a pipe to its standard input")
        return self._process.stdin

    def exited(self) -> bool:
        """Whether it has ended. ``end`` reaps it."""
        if self._process.returncode is not None:
            return True
        try:
            # WNOWAIT leaves the child unreaped, so its pid cannot be given to another process.
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self._process.pid, flags) is not None
        except ChildProcessError:  # somebody else in this process reaped it
            self._process.poll()
            return True

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        if not self.exited():
            os.kill(self._process.pid, signal.SIGTERM)

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended; False if it runs on."""
        give_up = time.monotonic() + seconds
        while not self.exited():
            if time.monotonic() > give_up:
                return False
            # Polled: Popen.wait would reap the leader, and end could then no longer be sure of its
            # group.
            time.sleep(_POLL_S)
        return True

    def close_input(self) -> None:
        """Let it read the end of its standard input. Does nothing where that is no pipe."""
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except BrokenPipeError:  # what was not flushed: nobody is left to read it
                pass

    def end(self) -> None:
        """Kill whatever is left of its process group, then reap it."""
        if self._process.returncode is not None:
            return
        self.close_input()
        # Before the leader is reaped its pid cannot belong to anybody else, so the group is
        # certainly ours.
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()


def answers(port: int, path: str, timeout_s: float, host: str = "127.0.0.1") -> bool:
    """Whether ``GET path`` on an address of this machine answers 200 in time."""
    return status(port, path, timeout_s, host) == 200


def status(port: int, path: str, timeout_s: float, host: str = "127.0.0.1") -> int | None:
    """The status with which ``GET path`` on an address of this machine answers; None without an
    answer in time.
    """
    # http.client rather than a session: no pool, no retry, no proxy of the environment between this
    # process and its own machine.
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def last_lines(path: Path, count: int, start: int = 0) -> list[str]:
    """The last lines that a log has, at most 8 KiB of them, from byte ``start`` on."""
    with path.open("rb") as log:
        end = log.seek(0, os.SEEK_END)
        # The first of these lines may be cut; a log of gigabytes is not read for twenty lines.
        log.seek(max(start, end - _LAST_BYTES))
        return log.read().decode("utf-8", "replace").splitlines()[-count:]


def _ending_with(parent: int) -> Callable[[], None]:
    """In the child: ask the kernel for SIGTERM when the parent ends, however it ends."""

    # Runs in the child between fork and exec, so it does as little as it can.
    def ask() -> None:
        # A signal is sent when the parent ends from here on; what happened before is seen below.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before
            os._exit(1)

    return ask
