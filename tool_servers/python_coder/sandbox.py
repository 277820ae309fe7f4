"""Run programs, each in a sandbox of its own, a limited number at once, each within its deadline."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from dataclasses import dataclass, field
from importlib import resources

from tool_servers.python_coder.bubblewrap import Bubblewrap
from tool_servers.python_coder.limits import Busy, JobResult, Limits, SandboxError, Status
from tool_servers.python_coder.process import Started

FIRST_UID = 1_879_048_192
"""Start of the user ids that systemd's list (UIDS-GIDS.md) leaves unused."""
FIRST_UID_OF_FEW = 40_000
"""The same where a container maps only 16 bits."""
MOST_JOBS = 1_024

_OUT_OF_MEMORY = (
    "MemoryError",
    "_ArrayMemoryError",
    "numpy._core._exceptions._ArrayMemoryError",
    "numpy.core._exceptions._ArrayMemoryError",
)


@dataclass(frozen=True)
class Verdict:
    """Why a job was stopped from the outside."""

    status: Status
    reason: str


@dataclass
class Sandbox:
    """``jobs`` slots; each job holds one from its start until all of its processes are gone."""

    box: Bubblewrap
    limits: Limits
    jobs: int
    uids: range | None = None
    """As root: a host user id for each slot. As an ordinary user: None."""
    _free: asyncio.LifoQueue[int] = field(init=False, repr=False)
    _running: set[asyncio.Future[Verdict]] = field(init=False, repr=False, default_factory=set)
    _closed: bool = field(init=False, repr=False, default=False)
    _launcher: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._launcher = resources.files(__package__).joinpath("launcher.py").read_text()
        self._free = asyncio.LifoQueue()
        for slot in range(self.jobs):
            self._free.put_nowait(slot)

    async def run(self, program: str, seconds: float | None = None, limits: Limits | None = None) -> JobResult:
        """Run one program; ``seconds`` from now it is over, waiting for a slot included.

        Raises Busy when no slot came free in time, SandboxError when the sandbox itself failed.
        Cancelling kills the job.
        """
        limits = limits or self.limits
        deadline = time.monotonic() + min(limits.seconds, limits.seconds if seconds is None else seconds)
        slot = await self._take(deadline)
        try:
            return await self._run(program.encode(errors="surrogatepass"), deadline, limits, slot)
        finally:
            self._free.put_nowait(slot)

    async def close(self) -> None:
        """Kill every running job. Their callers get the status ``killed``; later calls raise SandboxError."""
        self._closed = True
        for verdict in list(self._running):
            _decide(verdict, Verdict("killed", "the server is shutting down"))

    async def _take(self, deadline: float) -> int:
        with contextlib.suppress(asyncio.QueueEmpty):
            return self._free.get_nowait()
        waiter = asyncio.ensure_future(self._free.get())
        try:
            await asyncio.wait({waiter}, timeout=max(0.0, deadline - time.monotonic()))
        except asyncio.CancelledError:
            if waiter.done():
                self._free.put_nowait(waiter.result())
            waiter.cancel()
            raise
        if waiter.done():
            return waiter.result()
        waiter.cancel()
        raise Busy(f"all {self.jobs} slots were busy until the deadline; the program was not started")

    async def _run(self, program: bytes, deadline: float, limits: Limits, slot: int) -> JobResult:
        if self._closed:
            raise SandboxError("the server is shutting down")
        loop = asyncio.get_running_loop()
        begin = time.monotonic()
        if deadline <= begin:
            return JobResult("timeout", "[stopped: no time was left to start]", 0.0)
        verdict: asyncio.Future[Verdict] = loop.create_future()
        self._running.add(verdict)
        too_late = Verdict("timeout", f"ran longer than {max(0.0, deadline - begin):.1f} s")
        alarm = loop.call_later(max(0.0, deadline - begin), _decide, verdict, too_late)
        try:
            job = await self._start(limits, self.uids[slot] if self.uids else 0)
            return await self._supervise(job, program, verdict, limits, begin)
        finally:
            alarm.cancel()
            self._running.discard(verdict)

    async def _start(self, limits: Limits, uid: int) -> Started:
        starting = asyncio.ensure_future(Started.start(self.box, limits, uid, self._launcher))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait({starting})
            if not starting.exception():
                await _finish(starting.result())
            raise

    async def _supervise(
        self, job: Started, program: bytes, verdict: asyncio.Future[Verdict], limits: Limits, begin: float
    ) -> JobResult:
        too_much = Verdict("output", f"printed more than {limits.output_mb} MB")
        draining = asyncio.ensure_future(job.drain(limits.output_mb << 20, lambda: _decide(verdict, too_much)))
        playing = asyncio.ensure_future(job.play(program))
        playing.add_done_callback(lambda done: _judge_memory(done, verdict))
        ending = asyncio.ensure_future(job.wait())
        try:
            await asyncio.wait({ending, verdict}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            playing.cancel()
            await _finish(job, draining)
        stopped = verdict.result() if verdict.done() else None
        if not stopped and not job.up:
            raise SandboxError(job.output.text().strip() or "it ended before it was up, without a word")
        return result(job.output.text(), await ending, stopped, time.monotonic() - begin)


async def _finish(job: Started, draining: asyncio.Future[None] | None = None) -> None:
    """End the job's processes, take their last output, give everything back."""
    await job.kill()
    await (draining or job.drain(0, lambda: None))
    await job.wait()
    job.close()


def result(printed: str, code: int, stopped: Verdict | None, seconds: float) -> JobResult:
    """What a job's end amounts to: its exit code, unless it was stopped from the outside."""
    if stopped:
        return JobResult(stopped.status, _with_note(printed, f"stopped: {stopped.reason}"), seconds)
    if code == 0:
        return JobResult("ok", printed, seconds)
    if code == 128 + signal.SIGXCPU:
        return JobResult("timeout", _with_note(printed, "stopped: used too much CPU time"), seconds)
    last = printed.rstrip().rpartition("\n")[2]
    if last.partition(":")[0] in _OUT_OF_MEMORY:
        return JobResult("memory", _with_note(printed, "failed: out of memory"), seconds)
    return JobResult("error", _with_note(printed, f"failed: {_how(code)}"), seconds)


def claim_uids(count: int) -> tuple[range, socket.socket]:
    """``count`` host user ids that no other sandbox server of this machine uses, while the returned socket is open.

    Resource limits count by user id: two jobs with the same one could starve each other.
    Raises SandboxError when there are none left.
    """
    first = FIRST_UID if _mapped(FIRST_UID + 64 * MOST_JOBS) else FIRST_UID_OF_FEW
    for block in range(16):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        start = first + block * MOST_JOBS
        try:
            claim.bind(f"\0agentflow-sandbox-uids-{start}")  # gone with this process, however it ends
        except OSError:
            claim.close()
            continue
        return range(start, start + count), claim
    raise SandboxError("16 sandbox servers run on this machine already, no user ids are left for another")


def _mapped(uid: int) -> bool:
    with open("/proc/self/uid_map") as lines:
        ranges = [tuple(map(int, line.split())) for line in lines]
    return any(inside <= uid < inside + length for inside, _, length in ranges)


def _decide(verdict: asyncio.Future[Verdict], why: Verdict) -> None:
    if not verdict.done():
        verdict.set_result(why)


def _judge_memory(watching: asyncio.Future[str], verdict: asyncio.Future[Verdict]) -> None:
    if watching.cancelled():
        return
    if error := watching.exception():  # a job that cannot be watched must not go on
        _decide(verdict, Verdict("killed", f"its memory could not be watched: {error!r}"))
    else:
        _decide(verdict, Verdict("memory", watching.result()))


def _with_note(printed: str, note: str) -> str:
    return f"{printed}{'' if not printed or printed.endswith(chr(10)) else chr(10)}[{note}]"


def _how(code: int) -> str:
    if code > 128:
        try:
            return f"ended by {signal.Signals(code - 128).name}"
        except ValueError:
            pass
    return f"exit code {code}"
