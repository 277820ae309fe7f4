"""State kept between the calls of one trajectory: a sandbox that stays, with its variables, files
and processes.

It ends with its trajectory, when it was idle for too long, or when it does what would end any job:
then its state is gone, and the caller is told. Two trajectories never share one.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace

from tool_servers.python_coder.sandbox.job import Job
from tool_servers.python_coder.sandbox.limits import Busy, JobResult, Limits, StateLost
from tool_servers.python_coder.sandbox.runner import Sandbox
from tool_servers.python_coder.sandbox.slots import Slots

CPU_S = 3_600.0
"""CPU time of a process over all calls of a session; each call has its own wall clock."""
GONE = "[its variables and files are gone: the next call starts anew]"


@dataclass
class _Session:
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    job: Job | None = None
    expiry: asyncio.TimerHandle | None = None
    callers: int = 0


class Sessions:
    """At most ``most`` at once; each has a slot of its own for as long as it lives.

    ``uids`` as for Sandbox. ``idle_s``: seconds after its last call at which a session ends.
    """

    def __init__(
        self, sandbox: Sandbox, most: int, idle_s: float, uids: range | None = None
    ) -> None:
        self._sandbox, self._idle_s, self._uids = sandbox, idle_s, uids
        self._slots = Slots(range(most))
        self._open: dict[str, _Session] = {}

    async def run(
        self, trajectory: str, program: str, seconds: float | None = None, goes_on: bool = False
    ) -> JobResult:
        """Run a program with what earlier ones of the same trajectory left; calls of one trajectory
        take turns.

        ``goes_on``: they left something; raises StateLost where it is no longer there. Raises Busy
        when no session came free, or it was not its turn, in time; SandboxError as ``Sandbox.run``.
        Cancelling ends the session.
        """
        limits = self._sandbox.limits
        deadline = time.monotonic() + min(
            limits.seconds, limits.seconds if seconds is None else seconds
        )
        session = self._open.setdefault(trajectory, _Session())
        session.callers += 1
        if session.expiry:
            session.expiry.cancel()
        try:
            return await self._in_turn(session, program, deadline, limits, goes_on)
        finally:
            session.callers -= 1
            if not session.callers:
                self._rest(trajectory, session)

    def end(self, trajectory: str) -> None:
        """The trajectory is over. Ending one that has no session is fine."""
        session = self._open.pop(trajectory, None)
        if session is None:
            return
        if session.expiry:
            session.expiry.cancel()
        if session.job:
            session.job.kill()

    async def _in_turn(
        self, session: _Session, program: str, deadline: float, limits: Limits, goes_on: bool
    ) -> JobResult:
        try:
            await asyncio.wait_for(session.turn.acquire(), max(0.0, deadline - time.monotonic()))
        except asyncio.TimeoutError:
            raise Busy(
                "an earlier call of this trajectory ran until the deadline; the program was not"
                " started"
            ) from None
        done = False
        try:
            if session.job is None or not session.job.alive:
                if goes_on:
                    raise StateLost(
                        "the server was restarted, or the trajectory was idle for too long: what it"
                        " had defined is gone"
                    )
                session.job = await self._begin(limits, deadline)
            result = await self._sandbox.play(session.job, program, deadline)
            done = True
        finally:
            if not done and session.job:
                session.job.kill()
                session.job = None  # it takes a moment to end
            session.turn.release()
        if session.job.alive:
            return replace(result, kept=True)
        return replace(result, output=f"{result.output.rstrip(chr(10))}\n{GONE}".lstrip())

    async def _begin(self, limits: Limits, deadline: float) -> Job:
        slot = await self._slots.take(deadline)
        try:
            job = await self._sandbox.fork(limits, self._uids[slot] if self._uids else 0, CPU_S)
        except BaseException:
            self._slots.give(slot)
            raise
        job.ended.add_done_callback(lambda _: self._slots.give(slot))
        return job

    def _rest(self, trajectory: str, session: _Session) -> None:
        if session.job is None or not session.job.alive:
            if self._open.get(trajectory) is session:
                del self._open[trajectory]
        elif self._open.get(trajectory) is not session:  # it was ended meanwhile
            session.job.kill()
        else:
            session.expiry = asyncio.get_running_loop().call_later(
                self._idle_s, self.end, trajectory
            )
