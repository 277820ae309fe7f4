"""The fork server, seen from the outside: start it, ask it for sandboxes, end it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Sequence

from tool_servers.python_coder.sandbox import seccomp
from tool_servers.python_coder.sandbox.bubblewrap import Bubblewrap
from tool_servers.python_coder.sandbox.job import Job, readable
from tool_servers.python_coder.sandbox.limits import Limits, SandboxError

_UP_WITHIN_S = 30.0
"""On a machine that is busy with other things. One that never comes up must not hold up those after
it.
"""


class ForkServer:
    """The fork server's process."""

    def __init__(self, process: asyncio.subprocess.Process, link: socket.socket) -> None:
        self._process, self._link = process, link
        self._turns = asyncio.Semaphore(len(os.sched_getaffinity(0)))

    @classmethod
    async def start(cls, box: Bubblewrap, preload: Sequence[str]) -> ForkServer:
        """Start one and wait until it has imported ``preload``.

        Raises SandboxError when bubblewrap or an import fails. Must not be cancelled.
        """
        link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        link.setblocking(False)
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *(*box.command(), str(theirs.fileno())),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                    env={},  # a job can read the environment of its first process
                    cwd="/",
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,  # out of the server's process group
                )
            except OSError as error:
                link.close()
                raise SandboxError(f"{box.binary} cannot be started: {error}") from error
        server, loop = cls(process, link), asyncio.get_running_loop()
        setup = {
            "filter": seccomp.program().hex(),
            "packages": box.packages,
            "preload": list(preload),
        }
        with contextlib.suppress(OSError):
            await loop.sock_sendall(link, json.dumps(setup).encode())
            if await loop.sock_recv(link, 64):
                return server
        reason = await process.stdout.read()
        await server.close()
        raise SandboxError(
            reason.decode(errors="replace").strip() or "it ended before it was up, without a word"
        )

    @property
    def alive(self) -> bool:
        if self._process.returncode is not None or self._link.fileno() < 0:
            return False
        return not readable(self._link.fileno())  # it says nothing after its start: this is its end

    async def fork(self, limits: Limits, uid: int, session_seconds: float | None) -> Job:
        """A sandbox that waits for a program; ``uid`` is the host's user id for it, 0 to keep the
        server's.

        For a session, ``session_seconds`` is the CPU time of all its programs. Raises SandboxError.
        """
        order = {
            "uid": uid,
            "cpu": max(1, round(session_seconds or limits.seconds)),
            "memory": limits.memory_mb << 20,
            "processes": limits.processes,
            "disk": limits.disk_mb << 20,
            "files": limits.files,
            "open_files": limits.open_files,
            "session": session_seconds is not None,
        }
        async with self._turns:
            control, theirs = socket.socketpair()
            said, stdin = socket.socketpair()
            said.shutdown(socket.SHUT_WR)  # there is nothing to read on it, but an end
            output, printed = os.pipe()
            job = Job(control, said, output, limits, order["session"])
            try:
                with theirs, stdin, os.fdopen(printed, "wb"):
                    socket.send_fds(
                        self._link,
                        [json.dumps(order).encode()],
                        [theirs.fileno(), stdin.fileno(), printed],
                    )
                await asyncio.wait_for(job.ready(), _UP_WITHIN_S)
            except BaseException as error:
                job.close()  # its process sees that and ends
                if isinstance(error, asyncio.TimeoutError):
                    raise SandboxError(f"a sandbox was not up after {_UP_WITHIN_S:g} s") from error
                if isinstance(error, OSError):
                    raise SandboxError(f"the fork server is gone: {error}") from error
                raise
        return job

    async def close(self) -> None:
        """End it and every sandbox it made: the kernel ends them with bubblewrap's process."""
        self._link.close()
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self._process._transport.close()  # the pipe; asyncio has no public name for it
