"""The process that forks sandboxes: start it, ask it for sandboxes, end it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Sequence

import anyio

from tool_servers.python_coder.sandbox import seccomp
from tool_servers.python_coder.sandbox.bubblewrap import Bubblewrap
from tool_servers.python_coder.sandbox.job import Job, is_readable
from tool_servers.python_coder.sandbox.limits import Limits, SandboxError

_START_S = 30.0
"""Longest start of a sandbox, on a busy machine. One that never starts must not block the next."""


class ForkServer:
    """bubblewrap with the fork server inside, as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, link: socket.socket) -> None:
        self._process, self._link = process, link
        # more forks at once than cores only take time from each other
        self._forks_at_once = anyio.CapacityLimiter(len(os.sched_getaffinity(0)))

    @classmethod
    async def start(cls, box: Bubblewrap, preload: Sequence[str]) -> ForkServer:
        """Start one and wait until it has imported ``preload``.

        Raises SandboxError when bubblewrap or an import fails. Must not be cancelled.
        """
        # SEQPACKET keeps messages apart, so a request and its descriptors arrive as one, or not at
        # all.
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
        assert process.stdout is not None
        reason = (await process.stdout.read()).decode(errors="replace").strip()
        await server.close()
        raise SandboxError(reason or "the fork server ended before it was up, without a message")

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        if self._process.returncode is not None or self._link.fileno() < 0:
            return False
        # it sends nothing after its start: what can be read is the end of the connection
        return not is_readable(self._link.fileno())

    async def fork(self, limits: Limits, uid: int, session_seconds: float | None) -> Job:
        """Fork a sandbox that waits for a program.

        ``uid``: the host's user id of the job, 0 to keep the fork server's. ``session_seconds``:
        for a session, the CPU time of all its programs. Raises SandboxError.
        """
        request = {
            "uid": uid,
            "cpu": max(1, round(session_seconds or limits.seconds)),
            "memory": limits.memory_mb << 20,
            "processes": limits.processes,
            "disk": limits.disk_mb << 20,
            "files": limits.files,
            "open_files": limits.open_files,
            "session": session_seconds is not None,
        }
        async with self._forks_at_once:
            # Made here and passed on, rather than made inside: what the server holds it can always
            # close, and each job sees the end of its connection when the server is gone.
            control, theirs = socket.socketpair()
            said, stdin = socket.socketpair()
            said.shutdown(socket.SHUT_WR)  # the job's standard input is at its end
            output, printed = os.pipe()
            job = Job(control, said, output, limits, session_seconds is not None)
            try:
                with theirs, stdin, os.fdopen(printed, "wb"):
                    descriptors = [theirs.fileno(), stdin.fileno(), printed]
                    socket.send_fds(self._link, [json.dumps(request).encode()], descriptors)
                await asyncio.wait_for(job.ready(), _START_S)
            except BaseException as error:
                job.close()  # its process sees that and ends
                if isinstance(error, asyncio.TimeoutError):
                    raise SandboxError(f"a sandbox was not up after {_START_S:g} s") from error
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
        # closes the pipe of its output; asyncio has no public name for it
        self._process._transport.close()  # type: ignore[attr-defined]
