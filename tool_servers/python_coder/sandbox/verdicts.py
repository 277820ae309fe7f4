"""What a job's end amounts to."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from tool_servers.python_coder.sandbox.limits import JobResult, Limits, Status

_OUT_OF_MEMORY = (
    "MemoryError",
    "_ArrayMemoryError",
    "numpy._core._exceptions._ArrayMemoryError",
    "numpy.core._exceptions._ArrayMemoryError",
)


@dataclass(frozen=True)
class Stop:
    """Why the server stopped a job."""

    status: Status
    reason: str


def result(
    printed: str, verdict: str | None, stop: Stop | None, limits: Limits, seconds: float
) -> JobResult:
    """``verdict`` is the sandbox's, None where it was ended without one; what the server decided
    comes first.
    """
    if stop:
        return JobResult(stop.status, _with_note(printed, f"stopped: {stop.reason}"), seconds)
    if verdict is None:
        return JobResult("killed", _with_note(printed, "stopped: the sandbox was killed"), seconds)
    if verdict == "memory":
        note = f"stopped: used more than {limits.memory_mb} MB of memory"
        return JobResult("memory", _with_note(printed, note), seconds)
    code = _code(verdict)
    if code == 0:
        return JobResult("ok", printed, seconds)
    if code == 128 + signal.SIGXCPU:
        return JobResult("timeout", _with_note(printed, "stopped: used too much CPU time"), seconds)
    last = printed.rstrip().rpartition("\n")[2]
    if last.partition(":")[0] in _OUT_OF_MEMORY:
        return JobResult("memory", _with_note(printed, "failed: out of memory"), seconds)
    return JobResult("error", _with_note(printed, f"failed: {_how(code)}"), seconds)


def _code(verdict: str) -> int:
    word, _, number = verdict.partition(" ")
    return (
        int(number) if word in ("exit", "done") and number.isdecimal() and len(number) <= 3 else 255
    )


def _with_note(printed: str, note: str) -> str:
    return f"{printed}{'' if not printed or printed.endswith(chr(10)) else chr(10)}[{note}]"


def _how(code: int) -> str:
    if code > 128:
        try:
            return f"ended by {signal.Signals(code - 128).name}"
        except ValueError:
            pass
    return f"exit code {code}"
