"""Run programs, each in a sandbox of its own, a limited number at once, each within its deadline."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import time
from dataclasses import dataclass, field

from tool_servers.python_coder.sandbox.bubblewrap import Bubblewrap
from tool_servers.python_coder.sandbox.fork_server import ForkServer
from tool_servers.python_coder.sandbox.job import Job
from tool_servers.python_coder.sandbox.limits import Busy, JobResult, Limits, SandboxError
from tool_servers.python_coder.sandbox.slots import Slots
from tool_servers.python_coder.sandbox.verdicts import Stop, result

_NOTICE_S = 0.2
"""For the end of a fork server to be seen."""
AHEAD = 2
"""Sandboxes for each program that may run at once: when all end together, as many can start while
theirs are made anew.
"""
PRELOAD = ("numpy", "numpy.fft", "numpy.polynomial", "numpy.random", "sympy")


def installed(names: tuple[str, ...] = PRELOAD) -> tuple[str, ...]:
    """Those of the packages that this interpreter has."""
    return tuple(name for name in names if importlib.util.find_spec(name.partition(".")[0]))


@dataclass
class Sandbox:
    """At most ``jobs`` programs at once, each in one of twice as many slots, which it leaves when
    all of its processes are gone.

    A slot that was used makes its next sandbox ready at once, so that a program finds one waiting.
    """

    box: Bubblewrap
    limits: Limits
    jobs: int
    uids: range | None = None
    """As root: a host user id for each slot, ``AHEAD * jobs``. As an ordinary user: None."""
    preload: tuple[str, ...] = field(default_factory=installed)
    """Packages that every job finds imported."""
    _places: Slots = field(init=False, repr=False)
    _slots: Slots = field(init=False, repr=False)
    _ready: dict[int, asyncio.Task[Job]] = field(init=False, repr=False, default_factory=dict)
    _running: set[asyncio.Future[Stop]] = field(init=False, repr=False, default_factory=set)
    _fork_server: asyncio.Task[ForkServer] | None = field(init=False, repr=False, default=None)
    _closed: bool = field(init=False, repr=False, default=False)

    def __post_init__(self) -> None:
        slots = AHEAD * self.jobs
        if os.geteuid() == 0 and len(self.uids or ()) < slots:
            raise SandboxError(
                f"as root a sandbox for {self.jobs} programs at once needs {slots} user ids:"
                " claim_uids"
            )
        self._places, self._slots = Slots(range(self.jobs)), Slots(range(slots))

    async def run(
        self, program: str, seconds: float | None = None, limits: Limits | None = None
    ) -> JobResult:
        """Run one program; ``seconds`` from now it is over, waiting for a slot included.

        Raises Busy when it could not start in time, SandboxError when the sandbox itself failed.
        Cancelling kills the job.
        """
        limits = limits or self.limits
        deadline = time.monotonic() + min(
            limits.seconds, limits.seconds if seconds is None else seconds
        )
        place = await self._places.take(deadline)
        try:
            job = await self._start(limits, deadline)
            if job is None:
                return JobResult("timeout", "[stopped: no time was left to start]", 0.0)
            try:
                return await self.play(job, program, deadline)
            finally:
                job.kill()
        finally:
            self._places.give(place)

    async def play(self, job: Job, program: str, deadline: float) -> JobResult:
        """Run a program in a sandbox of ``fork`` until it is over, or stopped, which ends the
        sandbox.
        """
        if self._closed:
            raise SandboxError("the server is shutting down")
        loop, begin = asyncio.get_running_loop(), time.monotonic()
        stop: asyncio.Future[Stop] = loop.create_future()
        self._running.add(stop)
        too_late = Stop("timeout", f"ran longer than {max(0.0, deadline - begin):.1f} s")
        too_much = Stop("output", f"printed more than {job.limits.output_mb} MB")
        alarm = loop.call_later(max(0.0, deadline - begin), _decide, stop, too_late)
        feeding = asyncio.ensure_future(
            job.play(program.encode(errors="surrogatepass"), lambda: _decide(stop, too_much))
        )
        try:
            await asyncio.wait({job.over, stop}, return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                job.kill()
                await asyncio.shield(job.ended)
            printed, verdict = job.rest()
        finally:
            alarm.cancel()
            feeding.cancel()
            self._running.discard(stop)
        return result(
            printed,
            verdict,
            stop.result() if stop.done() else None,
            job.limits,
            time.monotonic() - begin,
        )

    async def fork(self, limits: Limits, uid: int, session_seconds: float | None = None) -> Job:
        """A new sandbox, from a fork server that is started, or started again, when there is none."""
        server = await self._started_fork_server()
        try:
            return await server.fork(limits, uid, session_seconds)
        except SandboxError:
            await asyncio.sleep(_NOTICE_S)
            if server.alive:
                raise
        return await (await self._started_fork_server()).fork(limits, uid, session_seconds)

    async def _started_fork_server(self) -> ForkServer:
        if self._closed:
            raise SandboxError("the server is shutting down")
        if self._fork_server is None or self._fork_server.done() and not _alive(self._fork_server):
            self._fork_server = asyncio.ensure_future(ForkServer.start(self.box, self.preload))
        return await asyncio.shield(self._fork_server)

    async def close(self) -> None:
        """Kill every running job. Their callers get the status ``killed``; later calls raise
        SandboxError.
        """
        self._closed = True
        for stop in list(self._running):
            _decide(stop, Stop("killed", "the server is shutting down"))
        while self._ready:
            _discard(self._ready.popitem()[1])
        if self._fork_server is not None:
            server, self._fork_server = self._fork_server, None
            await asyncio.wait({server})
            if not server.exception():
                await server.result().close()

    async def _start(self, limits: Limits, deadline: float) -> Job | None:
        """A sandbox for one program, whose slot is free again once it has ended; None where the
        time is over.
        """
        slot = await self._slots.take(deadline)
        try:
            job = await self._take(slot, limits, deadline) if time.monotonic() < deadline else None
        except BaseException:
            self._slots.give(slot)
            raise
        if job is None:
            self._slots.give(slot)
        else:
            job.ended.add_done_callback(lambda _: self._free(slot))
        return job

    async def _take(self, slot: int, limits: Limits, deadline: float) -> Job:
        """The slot's sandbox: the one that is ready, when it has these limits, else a new one."""
        ready = self._ready.pop(slot, None)
        if ready is not None and (limits != self.limits or ready.done() and not _alive(ready)):
            _discard(ready)
            ready = None
        task = ready or self._make(slot, limits)
        try:
            await asyncio.wait({task}, timeout=max(0.0, deadline - time.monotonic()))
        except asyncio.CancelledError:
            _discard(task)
            raise
        if task.done():
            return task.result()
        _discard(task)
        raise Busy("no sandbox was ready before the deadline; the program was not started")

    def _make(self, slot: int, limits: Limits) -> asyncio.Task[Job]:
        return asyncio.ensure_future(self.fork(limits, self.uids[slot] if self.uids else 0))

    def _free(self, slot: int) -> None:
        """Make the slot's next sandbox; until it is ready, programs take other slots."""
        if self._closed:
            return self._slots.give(slot)
        self._ready[slot] = task = self._make(slot, self.limits)
        task.add_done_callback(lambda _: self._slots.give(slot))


def _alive(task: asyncio.Task[Job] | asyncio.Task[ForkServer]) -> bool:
    return not task.cancelled() and not task.exception() and task.result().alive


def _discard(task: asyncio.Task[Job]) -> None:
    """End a sandbox that nobody will use, or its making."""

    def end(done: asyncio.Task[Job]) -> None:
        if not done.cancelled() and not done.exception():
            done.result().kill()

    task.cancel()
    task.add_done_callback(end)


def _decide(stop: asyncio.Future[Stop], why: Stop) -> None:
    if not stop.done():
        stop.set_result(why)
