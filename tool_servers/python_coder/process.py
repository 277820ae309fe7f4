"""One started sandbox, seen from the outside: what it prints, what it uses, how it ends.

Output          keeps the beginning and the end of what is printed, whatever its length
over            the job's use of memory and files, counted over all its processes
Started         the processes: feed the program, wait, kill
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Callable, Sequence

from tool_servers.python_coder import seccomp
from tool_servers.python_coder.bubblewrap import Bubblewrap
from tool_servers.python_coder.limits import Limits, SandboxError

WATCH_INTERVAL_S = 0.05
"""Between two looks at a job's memory. What a job can take in between is not stopped in time."""


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
        """What is kept, with a mark where something was left out. Bytes that are not UTF-8 become U+FFFD."""
        left_out = self.total - len(self._head) - len(self._tail)
        if not left_out:
            return (self._head + self._tail).decode(errors="replace")
        mark = f"\n[... {left_out} bytes left out ...]\n"
        return self._head.decode(errors="replace") + mark + self._tail.decode(errors="replace")


class Started:
    """A sandbox whose first process waits for a program. Single use.

    It is only ever ended through its first process. bubblewrap's own process waits for that one: killed before it,
    it could leave it behind, half set up.
    """

    def __init__(self, bwrap: asyncio.subprocess.Process, news: asyncio.StreamReader, limits: Limits) -> None:
        self.up = False
        """Whether the launcher has reported. What is printed before that are bubblewrap's own words."""
        self.output = Output(limits.shown_bytes)
        self.pid: int | None = None
        """The host's number of the first process, once it is known."""
        self._bwrap = bwrap
        self._news = news
        self._limits = limits
        self._first_process: int | None = None  # a pidfd, so that a number used again is never killed
        self._known = asyncio.ensure_future(self._learn_pid())

    @classmethod
    async def start(cls, box: Bubblewrap, limits: Limits, uid: int, launcher: str) -> Started:
        """Start one; ``uid`` is the host's user id for the job, 0 to keep the one it has. Must not be cancelled.

        Raises SandboxError when bubblewrap cannot be started.
        """
        seccomp_fd = _filled_pipe(seccomp.program())
        news_fd, info_fd = os.pipe()
        ready_fd = os.dup(info_fd)
        passed = (seccomp_fd, info_fd, ready_fd)
        try:
            bwrap = await asyncio.create_subprocess_exec(
                *box.command(limits, seccomp_fd, info_fd),
                *("-c", launcher, *_launch(box.packages, limits, uid, ready_fd)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={},  # the job can read the environment of its first process
                cwd="/",
                pass_fds=passed,
                start_new_session=True,  # out of the server's process group, and a unit for the scheduler
            )
        except OSError as error:
            os.close(news_fd)
            raise SandboxError(f"{box.binary} cannot be started: {error}") from error
        finally:
            for fd in passed:
                os.close(fd)
        return cls(bwrap, await _reader(news_fd), limits)

    async def _learn_pid(self) -> None:
        try:
            said = await self._news.readuntil(b"}")
        except asyncio.IncompleteReadError:
            return  # bubblewrap gave up before it made a process
        self.pid = int(re.search(rb'"child-pid": (\d+)', said)[1])
        with contextlib.suppress(ProcessLookupError):
            self._first_process = os.pidfd_open(self.pid)

    async def play(self, program: bytes) -> str:
        """Wait until the sandbox is up, run the program in it and watch it.

        Returns what the job has too much of, once it has; never returns for a job that keeps its limits.
        """
        await asyncio.wait({self._known})
        self.up = b"ready" in await self._news.read()
        if self.up:
            await self._feed(program)
            return await self._watch_memory()
        return await asyncio.get_running_loop().create_future()

    async def _feed(self, program: bytes) -> None:
        stdin = self._bwrap.stdin
        try:
            stdin.write(program)
            await stdin.drain()
        except ConnectionError:
            pass  # it ended before it read all
        finally:
            stdin.close()

    async def drain(self, most: int, excess: Callable[[], None]) -> None:
        """Read what is printed until it ends; call ``excess`` once it is more than ``most`` bytes.

        Reads on after that: a process with unread output does not count as ended in asyncio.
        """
        while data := await self._bwrap.stdout.read(1 << 16):
            self.output.add(data)
            if self.output.total > most:
                excess()

    async def wait(self) -> int:
        """The exit code of the program; 128 + N when signal N ended it."""
        return await self._bwrap.wait()

    async def kill(self) -> None:
        """End every process of the job at once: those of a pid namespace end with its first."""
        await asyncio.wait({self._known})  # one of bubblewrap's first steps
        if self._first_process is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first_process, signal.SIGKILL)

    def close(self) -> None:
        """Give back the descriptors of a job that has ended."""
        if self._first_process is not None:
            os.close(self._first_process)
            self._first_process = None
        self._bwrap._transport.close()  # the pipes; asyncio has no public name for it

    async def _watch_memory(self) -> str:
        root = None
        try:
            while root is None:
                await asyncio.sleep(WATCH_INTERVAL_S)
                with contextlib.suppress(OSError):
                    root = os.open(f"/proc/{self.pid}/root", os.O_PATH | os.O_DIRECTORY)
            while True:
                if excess := over(root, self._limits):
                    return excess
                await asyncio.sleep(WATCH_INTERVAL_S)
        finally:
            if root is not None:
                os.close(root)


def over(root: int, limits: Limits) -> str | None:
    """What the job below the open folder ``root`` has too much of, in words, or None."""
    most = limits.memory_mb << 20
    try:
        if memory_in_use(root, exact=False) > most and memory_in_use(root, exact=True) > most:
            return f"used more than {limits.memory_mb} MB of memory"
        for place in ("tmp", "dev/shm"):
            held = os.statvfs(f"/proc/self/fd/{root}/{place}")
            if held.f_files - held.f_ffree > limits.files:
                return f"made more than {limits.files} files in /{place}"
    except OSError:
        return None  # the job is ending
    return None


def memory_in_use(root: int, exact: bool) -> int:
    """Bytes of memory of all processes in the sandbox but its first, by the sandbox's own /proc.

    Not ``exact``: pages shared between processes count in each, which is cheap and never too low.
    """
    processes = os.open("proc", os.O_RDONLY | os.O_DIRECTORY, dir_fd=root)
    try:
        pids = [name for name in os.listdir(processes) if name.isdigit() and name != "1"]
        return sum(_memory(processes, pid, exact) for pid in pids)
    finally:
        os.close(processes)


def _memory(processes: int, pid: str, exact: bool) -> int:
    # proc_pid_status(5) and proc_pid_smaps(5), in kB
    name, wanted = (
        ("smaps_rollup", rb"(?:Pss_Anon|Pss_Shmem|SwapPss)") if exact else ("status", rb"(?:RssAnon|RssShmem|VmSwap)")
    )
    try:
        file = os.open(f"{pid}/{name}", os.O_RDONLY, dir_fd=processes)
        try:
            text = os.read(file, 1 << 16)
        finally:
            os.close(file)
    except PermissionError:
        return _memory(processes, pid, exact=False) if exact else 0
    except OSError:
        return 0  # it has ended
    return sum(int(kb) << 10 for kb in re.findall(rb"^" + wanted + rb":\s+(\d+) kB", text, re.MULTILINE))


def _launch(packages: Sequence[str], limits: Limits, uid: int, ready_fd: int) -> list[str]:
    numbers = (
        *(ready_fd, uid, max(1, round(limits.seconds)), limits.memory_mb << 20),
        *(limits.processes, limits.disk_mb << 20, limits.open_files),
    )
    return [*map(str, numbers), *packages]


def _filled_pipe(data: bytes) -> int:
    """The read end of a pipe that holds ``data``, which must fit one (64 KiB)."""
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return reader


async def _reader(fd: int) -> asyncio.StreamReader:
    """A stream over the read end of a pipe, which is closed with the pipe's end."""
    reader = asyncio.StreamReader()
    pipe = os.fdopen(fd, "rb", 0)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader
