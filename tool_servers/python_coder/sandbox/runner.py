"""Run programs, each in a sandbox of its own, a limited number at once, each within a deadline."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import time
from dataclasses import dataclass, field
from typing import Any

from tool_servers.python_coder.sandbox.bubblewrap import Bubblewrap
from tool_servers.python_coder.sandbox.fork_server import ForkServer
from tool_servers.python_coder.sandbox.job import Job
from tool_servers.python_coder.sandbox.limits import Busy, JobResult, Limits, SandboxError
from tool_servers.python_coder.sandbox.results import Stop, job_result
from tool_servers.python_coder.sandbox.slots import Slots

_NOTICE_S = 0.2
"""Time for the end of a fork server to be noticed."""
SANDBOXES_PER_JOB = 2
"""Sandboxes per program that may run at once: when all programs end together, as many can start
while the used sandboxes are replaced.
"""
PRELOAD = ("numpy", "numpy.fft", "numpy.polynomial", "numpy.random", "sympy")


def installed_preload() -> tuple[str, ...]:
    """The modules of ``PRELOAD`` whose package this interpreter has."""
    return tuple(name for name in PRELOAD if importlib.util.find_spec(name.partition(".")[0]))


@dataclass
class Sandbox:
    """Runs at most ``jobs`` programs at once.

    Each runs in one of twice as many slots, and the slot is free again when all of its processes
    are gone. A slot that was used prepares its next sandbox at once, so that a program finds one
    ready.
    """

    box: Bubblewrap
    limits: Limits
    jobs: int
    uids: range | None = None
    """As root: a host user id for each slot, ``SANDBOXES_PER_JOB * jobs``. As an ordinary user:
    None."""
    preload: tuple[str, ...] = field(default_factory=installed_preload)
    """Packages that every job finds imported."""
    _running_slots: Slots = field(init=False, repr=False)
    _slots: Slots = field(init=False, repr=False)
    _ready: dict[int, asyncio.Task[Job]] = field(init=False, repr=False, default_factory=dict)
    _running: set[asyncio.Future[Stop]] = field(init=False, repr=False, default_factory=set)
    _fork_server: asyncio.Task[ForkServer] | None = field(init=False, repr=False, default=None)
    _closed: bool = field(init=False, repr=False, default=False)

    def __post_init__(self) -> None:
        slots = SANDBOXES_PER_JOB * self.jobs
        if os.geteuid() == 0 and len(self.uids or ()) < slots:
            raise SandboxError(
                f"as root a sandbox for {self.jobs} programs at once needs {slots} user ids:"
                " claim_uids"
            )
        self._running_slots, self._slots = Slots(range(self.jobs)), Slots(range(slots))

    async def run(
        self, program: str, seconds: float | None = None, limits: Limits | None = None
    ) -> JobResult:
        """Run one program within ``seconds``, waiting for a slot included.

        Raises Busy when it could not start in time, SandboxError when the sandbox itself failed.
        Cancelling kills the job.
        """
        limits = limits or self.limits
        deadline = time.monotonic() + limits.allowed_seconds(seconds)
        running_slot = await self._running_slots.take(deadline)
        try:
            job = await self._sandbox_for(limits, deadline)
            if job is None:
                return JobResult("timeout", "[stopped: no time was left to start]", 0.0)
            try:
                return await self.run_in(job, program, deadline)
            finally:
                job.kill()
        finally:
            self._running_slots.give(running_slot)

    async def run_in(self, job: Job, program: str, deadline: float) -> JobResult:
        """Run a program in a sandbox of ``fork`` until it is over, or stopped, which ends the
        sandbox. Raises SandboxError while the server shuts down.
        """
        if self._closed:
            raise SandboxError("the server is shutting down")
        loop, begin = asyncio.get_running_loop(), time.monotonic()
        stop: asyncio.Future[Stop] = loop.create_future()
        self._running.add(stop)
        left = max(0.0, deadline - begin)
        too_late = Stop("timeout", f"ran longer than {left:.1f} s")
        too_much = Stop("output", f"printed more than {job.limits.output_mb} MB")
        alarm = loop.call_later(left, _resolve_once, stop, too_late)
        starting = asyncio.ensure_future(
            job.start(program.encode(errors="replace"), lambda: _resolve_once(stop, too_much))
        )
        try:
            either: set[asyncio.Future[Any]] = {job.finished, stop}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                job.kill()
                await asyncio.shield(job.ended)
            printed, report = job.collect()
        finally:
            alarm.cancel()
            starting.cancel()
            self._running.discard(stop)
        reason = stop.result() if stop.done() else None
        return job_result(printed, report, reason, job.limits, time.monotonic() - begin)

    async def fork(self, limits: Limits, uid: int, session_seconds: float | None = None) -> Job:
        """A new sandbox, from a fork server that is started, or started again, when there is none.
        Raises SandboxError.
        """
        server = await self._started_fork_server()
        try:
            return await server.fork(limits, uid, session_seconds)
        except SandboxError:
            await asyncio.sleep(_NOTICE_S)
            if server.alive:
                raise
        server = await self._started_fork_server()
        return await server.fork(limits, uid, session_seconds)

    async def close(self) -> None:
        """Kill every running job. Their callers get the status ``killed``; later calls raise
        SandboxError.
        """
        self._closed = True
        for stop in list(self._running):
            _resolve_once(stop, Stop("killed", "the server is shutting down"))
        while self._ready:
            _discard(self._ready.popitem()[1])
        if self._fork_server is not None:
            starting, self._fork_server = self._fork_server, None
            await asyncio.wait({starting})
            if not starting.exception():
                await starting.result().close()

    async def _started_fork_server(self) -> ForkServer:
        if self._closed:
            raise SandboxError("the server is shutting down")
        starting = self._fork_server
        if starting is None or (starting.done() and not _is_alive(starting)):
            starting = asyncio.ensure_future(ForkServer.start(self.box, self.preload))
            self._fork_server = starting
        # shielded: a caller that gives up must not end the start for all others
        return await asyncio.shield(starting)

    async def _sandbox_for(self, limits: Limits, deadline: float) -> Job | None:
        """A sandbox for one program, whose slot is free again once it has ended; None where the
        time is over.
        """
        slot = await self._slots.take(deadline)
        job = None
        try:
            if time.monotonic() < deadline:
                job = await self._take_ready(slot, limits, deadline)
        except BaseException:
            self._slots.give(slot)
            raise
        if job is None:
            self._slots.give(slot)
        else:
            job.ended.add_done_callback(lambda _: self._refill(slot))
        return job

    async def _take_ready(self, slot: int, limits: Limits, deadline: float) -> Job:
        """The slot's sandbox: the one that is ready, when it has these limits, else a new one."""
        ready = self._ready.pop(slot, None)
        if ready is not None and (limits != self.limits or ready.done() and not _is_alive(ready)):
            _discard(ready)
            ready = None
        task = ready or self._prepare(slot, limits)
        try:
            await asyncio.wait({task}, timeout=max(0.0, deadline - time.monotonic()))
        except asyncio.CancelledError:
            _discard(task)
            raise
        if task.done():
            return task.result()
        _discard(task)
        raise Busy("no sandbox was ready before the deadline; the program was not started")

    def _prepare(self, slot: int, limits: Limits) -> asyncio.Task[Job]:
        uid = self.uids[slot] if self.uids else 0
        return asyncio.ensure_future(self.fork(limits, uid))

    def _refill(self, slot: int) -> None:
        """Make the slot's next sandbox; until it is ready, programs take other slots."""
        if self._closed:
            self._slots.give(slot)
            return
        self._ready[slot] = task = self._prepare(slot, self.limits)
        task.add_done_callback(lambda _: self._slots.give(slot))


def _is_alive(task: asyncio.Task[Job] | asyncio.Task[ForkServer]) -> bool:
    return not task.cancelled() and not task.exception() and task.result().alive


def _discard(task: asyncio.Task[Job]) -> None:
    """End a sandbox that nobody will use, or its making."""

    def kill(done: asyncio.Task[Job]) -> None:
        if not done.cancelled() and not done.exception():
            done.result().kill()

    task.cancel()
    task.add_done_callback(kill)


def _resolve_once(stop: asyncio.Future[Stop], why: Stop) -> None:
    """The first reason to stop counts."""
    if not stop.done():
        stop.set_result(why)
