"""One sandbox, seen from the server: give it a program, read what it prints, kill it."""

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

PIPE_BYTES = 1 << 20
"""Most that a pipe holds (pipe(7), /proc/sys/fs/pipe-max-size)."""


def is_readable(fd: int) -> bool:
    """Whether a read returns at once, with data or the end."""
    events = select.poll()  # select(2) knows no descriptor from 1024 on
    events.register(fd, select.POLLIN)
    return bool(events.poll(0))


class Output:
    """Bytes printed: all are counted, the first 1/4 and the last 3/4 of ``shown`` are kept."""

    def __init__(self, shown: int) -> None:
        self._first, self._last = shown // 4, shown - shown // 4
        # The end of an output says more: a traceback is the last thing that a program prints.
        self._head, self._tail = bytearray(), bytearray()
        self.total = 0

    def add(self, data: bytes) -> None:
        """Count the bytes, and keep those that belong to either end."""
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
    """A sandbox whose process waits for a program. All its processes end when its init process is
    killed.

    Its descriptors are given back when it ends, or by ``close`` where it never came up.

    ``control``: the connection to the job's process before its program starts, then to its init
    process. ``stdin``: the server's end of the job's standard input. ``output``: a pipe with what
    it prints.
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
        self.finished: asyncio.Future[str | None] = loop.create_future()
        """What the sandbox reports once the program is over: ``exit N`` or ``memory``, and whatever
        the job left is being killed; ``done N`` in a session that goes on; None where it was
        killed."""
        self._loop = loop
        self._control, self._stdin, self._output, self._init = control, stdin, output, -1
        self._received = b""
        self._report: str | None = None
        self._on_excess: Callable[[], None] = lambda: None
        for fd in (control.fileno(), stdin.fileno(), output):
            os.set_blocking(fd, False)

    async def ready(self) -> None:
        """Wait until the sandbox is isolated. Raises SandboxError with the reason when it cannot
        be.
        """
        readable: asyncio.Future[None] = self._loop.create_future()

        def resolve_once() -> None:
            if not readable.done():
                readable.set_result(None)

        self._loop.add_reader(self._control, resolve_once)
        try:
            await readable
        finally:
            self._loop.remove_reader(self._control)
        # The pidfd comes with the message that says that the sandbox is up; without one the message
        # is why not.
        message, fds, _, _ = socket.recv_fds(self._control, 4096, 1)
        if not fds:
            reason = message.decode(errors="replace")
            raise SandboxError(reason or "a sandbox ended before it was up, without a message")
        self._init = fds[0]  # a pidfd: a process id that is used again is never killed by mistake
        self._loop.add_reader(self._init, self._on_end)

    @property
    def alive(self) -> bool:
        """Whether its init process runs, asked of the kernel."""
        return not self.ended.done() and not is_readable(self._init)

    async def start(self, program: bytes, on_excess: Callable[[], None]) -> None:
        """Run the program until ``finished`` is done; ``on_excess`` is called when it prints too
        much.
        """
        self._on_excess = on_excess
        self._loop.add_reader(self._output, self._read)
        self._loop.add_reader(self._control, self._on_control)
        self._loop.add_reader(self._stdin, self._on_stdin)
        with contextlib.suppress(OSError):  # it ended before it read all
            await self._loop.sock_sendall(self._control, len(program).to_bytes(8, "big") + program)

    def collect(self) -> tuple[str, str | None]:
        """What the program printed, and the report on its end.

        In a session, what is printed from now on belongs to the next program.
        """
        if not self.ended.done():
            self._read_all()
            self._loop.remove_reader(self._output)
        printed, report = self.output.text(), self.finished.result()
        self.output, self.finished = Output(self.limits.shown_bytes), self._loop.create_future()
        return printed, report

    def kill(self) -> None:
        """End every process of the job at once: those of a process namespace end with its init."""
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init, signal.SIGKILL)

    def close(self) -> None:
        """Give back the descriptors."""
        for fd in (self._control.fileno(), self._stdin.fileno(), self._output, self._init):
            if fd >= 0:
                self._loop.remove_reader(fd)
                self._loop.remove_writer(fd)
        self._control.close()
        self._stdin.close()
        for fd in (self._output, self._init):
            if fd >= 0:
                os.close(fd)
        self._output = self._init = -1

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
            self._on_excess()
        return True

    def _read_all(self) -> None:
        """Read what was in the pipe when the program ended.

        That is no more than a pipe can hold. In a session, processes of the job may still write:
        to read until the pipe is empty could take for ever.
        """
        end = self.output.total + PIPE_BYTES
        while self.output.total < end and self._read():
            pass

    def _on_control(self) -> None:
        """The report of the sandbox: one line."""
        try:
            data = self._control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._control)
        line, found, self._received = (self._received + data)[:4096].partition(b"\n")
        if not found:
            self._received = line
            return
        self._report = self._report or line.decode(errors="replace")
        # a program that is alone in its sandbox cannot reach this socket, one of a session can:
        # there only the end of the sandbox, or "done", counts
        if not self.session or self._report.startswith("done"):
            self._finish()

    def _on_stdin(self) -> None:
        """The program's own report that it is over.

        It is written before the kernel frees the process's memory, which takes longer than most
        programs run. A program that writes it and goes on is ended; nothing else that it writes
        there has an effect.
        """
        self._loop.remove_reader(self._stdin)
        with contextlib.suppress(OSError):
            said = self._stdin.recv(16)
            if re.fullmatch(rb"exit \d{1,3}\n", said) and not self.session:
                self._report = self._report or said.decode().rstrip()
                self._finish()

    def _finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(self._report)
        self._report = None

    def _on_end(self) -> None:
        """No process is left: take what is still in the pipes."""
        self._read_all()
        self._on_control()
        self.close()
        self.ended.set_result(None)
        self._finish()
