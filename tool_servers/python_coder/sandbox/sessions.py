"""State kept between the calls of one trajectory: a sandbox that stays, with its variables, files
and processes.

It ends with its trajectory, when it was idle for too long, or when a program does what would end
any job: then its state is gone, and the caller is told. Two trajectories never share one.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace

import anyio

from tool_servers.python_coder.sandbox.job import Job
from tool_servers.python_coder.sandbox.limits import Busy, JobResult, Limits, StateLost
from tool_servers.python_coder.sandbox.runner import Sandbox
from tool_servers.python_coder.sandbox.slots import Slots

CPU_S = 3_600.0
"""CPU time of a process over all calls of a session. Each call has its own wall clock."""
GONE = "[its variables and files are gone: the next call starts anew]"


@dataclass
class _Session:
    lock: anyio.Lock = field(default_factory=anyio.Lock)
    job: Job | None = None
    expiry: asyncio.TimerHandle | None = None
    callers: int = 0


class Sessions:
    """At most ``most`` sessions at once; each has a slot of its own for as long as it lives.

    ``uids``: as in Sandbox. ``idle_s``: seconds after its last call at which a session ends.
    """

    def __init__(
        self, sandbox: Sandbox, most: int, idle_s: float, uids: range | None = None
    ) -> None:
        self._sandbox, self._idle_s, self._uids = sandbox, idle_s, uids
        self._slots = Slots(range(most))
        self._open: dict[str, _Session] = {}

    async def run(
        self, trajectory: str, program: str, seconds: float | None = None, continues: bool = False
    ) -> JobResult:
        """Run a program with what earlier ones of the same trajectory left. The calls of one
        trajectory run one after the other.

        ``continues``: earlier programs left something; raises StateLost where it is no longer
        there. Raises Busy when no session came free, or an earlier call did not end, in time;
        SandboxError as ``Sandbox.run``. Cancelling ends the session.
        """
        limits = self._sandbox.limits
        deadline = time.monotonic() + limits.allowed_seconds(seconds)
        session = self._open.setdefault(trajectory, _Session())
        session.callers += 1
        if session.expiry:
            session.expiry.cancel()
        try:
            return await self._run_alone(session, program, deadline, limits, continues)
        finally:
            session.callers -= 1
            if not session.callers:
                self._schedule_end(trajectory, session)

    def end(self, trajectory: str) -> None:
        """The trajectory is over. One that has no session is no error."""
        session = self._open.pop(trajectory, None)
        if session is None:
            return
        if session.expiry:
            session.expiry.cancel()
        if session.job:
            session.job.kill()

    async def _run_alone(
        self, session: _Session, program: str, deadline: float, limits: Limits, continues: bool
    ) -> JobResult:
        try:
            with anyio.fail_after(max(0.0, deadline - time.monotonic())):
                await session.lock.acquire()
        except TimeoutError:
            raise Busy(
                "an earlier call of this trajectory ran until the deadline; the program was not"
                " started"
            ) from None
        done = False
        try:
            job = session.job
            if job is None or not job.alive:
                if continues:
                    raise StateLost(
                        "the server was restarted, or the trajectory was idle for too long: what it"
                        " had defined is gone"
                    )
                job = session.job = await self._start_job(limits, deadline)
            result = await self._sandbox.run_in(job, program, deadline)
            done = True
        finally:
            if not done and session.job:
                session.job.kill()
                session.job = None  # it takes a moment to end
            session.lock.release()
        if job.alive:
            return replace(result, kept=True)
        printed = result.output.rstrip("\n")
        return replace(result, output=f"{printed}\n{GONE}".lstrip())

    async def _start_job(self, limits: Limits, deadline: float) -> Job:
        slot = await self._slots.take(deadline)
        uid = self._uids[slot] if self._uids else 0
        try:
            job = await self._sandbox.fork(limits, uid, CPU_S)
        except BaseException:
            self._slots.give(slot)
            raise
        job.ended.add_done_callback(lambda _: self._slots.give(slot))
        return job

    def _schedule_end(self, trajectory: str, session: _Session) -> None:
        """End an idle session after its time, or at once where the trajectory ended meanwhile."""
        is_open = self._open.get(trajectory) is session
        if session.job is None or not session.job.alive:
            if is_open:
                del self._open[trajectory]
        elif not is_open:
            session.job.kill()
        else:
            loop = asyncio.get_running_loop()
            session.expiry = loop.call_later(self._idle_s, self.end, trajectory)
