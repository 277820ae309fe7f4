"""One sandbox, seen from the outside: give it a program, read what it prints, kill it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import signal
import socket
from collections.abc import Callable

from tool_servers.python_coder.sandbox.limits import Limits, SandboxError


def readable(fd: int) -> bool:
    """Whether there is something to read at once, or the end. (select(2) knows no descriptor from
    1024 on.)
    """
    events = select.poll()
    events.register(fd, select.POLLIN)
    return bool(events.poll(0))


class Output:
    """Bytes printed: all counted, the first quarter and the last three of ``shown`` kept."""

    def __init__(self, shown: int) -> None:
        self._first, self._last = shown // 4, shown - shown // 4
        self._head, self._tail = bytearray(), bytearray()
        self.total = 0

    def add(self, data: bytes) -> None:
        self.total += len(data)
        room = self._first - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data[-self._last :]
        del self._tail[: -self._last]

    def text(self) -> str:
        """What is kept, with a mark where something was left out. Bytes that are not UTF-8 become
        U+FFFD.
        """
        left_out = self.total - len(self._head) - len(self._tail)
        if not left_out:
            return (self._head + self._tail).decode(errors="replace")
        mark = f"\n[... {left_out} bytes left out ...]\n"
        return self._head.decode(errors="replace") + mark + self._tail.decode(errors="replace")


class Job:
    """A sandbox whose process waits for a program. All its processes end when its first is killed.

    Its descriptors are given back when it ends, or by ``close`` where it never came up.
    """

    def __init__(
        self,
        control: socket.socket,
        stdin: socket.socket,
        output: int,
        limits: Limits,
        session: bool,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.limits = limits
        self.session = session
        """Whether it stays for more programs after one."""
        self.output = Output(limits.shown_bytes)
        self.ended: asyncio.Future[None] = loop.create_future()
        """Done once no process of the job is left."""
        self.over: asyncio.Future[str | None] = loop.create_future()
        """What the sandbox says about the program, once it is over: ``exit N`` or ``memory``, and
        whatever the job left is being killed; ``done N`` in a session that goes on; None where it
        was killed."""
        self._loop = loop
        self._control, self._stdin, self._output, self._first = control, stdin, output, -1
        self._said, self._verdict = b"", None
        self._excess: Callable[[], None] = lambda: None
        for fd in (control.fileno(), stdin.fileno(), output):
            os.set_blocking(fd, False)

    async def ready(self) -> None:
        """Wait until the sandbox is isolated. Raises SandboxError with the reason when it cannot
        be.
        """
        readable: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._control, lambda: readable.done() or readable.set_result(None))
        try:
            await readable
        finally:
            self._loop.remove_reader(self._control)
        said, fds, _, _ = socket.recv_fds(self._control, 4096, 1)
        if not fds:
            raise SandboxError(
                said.decode(errors="replace") or "a sandbox ended before it was up, without a word"
            )
        self._first = fds[0]  # a pidfd, so that a number used again is never killed
        self._loop.add_reader(self._first, self._end)

    @property
    def alive(self) -> bool:
        """Whether its first process is there, asked of the kernel."""
        return not self.ended.done() and not readable(self._first)

    async def play(self, program: bytes, excess: Callable[[], None]) -> None:
        """Run the program until ``over`` is done; ``excess`` is called when it prints too much."""
        self._excess = excess
        self._loop.add_reader(self._output, self._read)
        self._loop.add_reader(self._control, self._listen)
        self._loop.add_reader(self._stdin, self._hear)
        with contextlib.suppress(OSError):  # it ended before it read all
            await self._loop.sock_sendall(self._control, len(program).to_bytes(8, "big") + program)

    def rest(self) -> tuple[str, str | None]:
        """What was printed, and the verdict. In a session, what is printed from now on waits for
        the next program.
        """
        if not self.ended.done():
            self._read_all()
            self._loop.remove_reader(self._output)
        printed, verdict = self.output.text(), self.over.result()
        self.output, self.over = Output(self.limits.shown_bytes), self._loop.create_future()
        return printed, verdict

    def kill(self) -> None:
        """End every process of the job at once: those of a process namespace end with its first."""
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first, signal.SIGKILL)

    def close(self) -> None:
        """Give back the descriptors."""
        for fd in (self._control.fileno(), self._stdin.fileno(), self._output, self._first):
            if fd >= 0:
                self._loop.remove_reader(fd)
                self._loop.remove_writer(fd)
        self._control.close()
        self._stdin.close()
        for fd in (self._output, self._first):
            if fd >= 0:
                os.close(fd)
        self._output = self._first = -1

    def _read(self) -> bool:
        """Read some output; whether there may be more."""
        try:
            data = os.read(self._output, 1 << 16)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(self._output)
            return False
        self.output.add(data)
        if self.output.total > self.limits.output_mb << 20:
            self._excess()
        return True

    def _read_all(self) -> None:
        while self._read():
            pass

    def _listen(self) -> None:
        try:
            data = self._control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._control)
        line, found, self._said = (self._said + data)[:4096].partition(b"\n")
        if not found:
            self._said = line
            return
        self._verdict = self._verdict or line.decode(errors="replace")
        if not self.session or self._verdict.startswith(
            "done"
        ):  # a program that came alone cannot reach this socket
            self._decide()

    def _hear(self) -> None:
        """The program's own word that it is over, said before the kernel takes its memory apart,
        which lasts longer than most programs. One that says so and goes on is ended; any other word
        of it is not heard.
        """
        self._loop.remove_reader(self._stdin)
        with contextlib.suppress(OSError):
            said = self._stdin.recv(16)
            if re.fullmatch(rb"exit \d{1,3}\n", said) and not self.session:
                self._verdict = self._verdict or said.decode().rstrip()
                self._decide()

    def _decide(self) -> None:
        if not self.over.done():
            self.over.set_result(self._verdict)
        self._verdict = None

    def _end(self) -> None:
        """No process is left: take what is still in the pipes."""
        self._read_all()
        self._listen()
        self.close()
        self.ended.set_result(None)
        self._decide()
