"""Map the end of a job to a JobResult."""

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


def job_result(
    printed: str, report: str | None, stop: Stop | None, limits: Limits, seconds: float
) -> JobResult:
    """The result of a job that printed ``printed`` and ran for ``seconds``.

    ``stop``: the server's own decision, which comes first. ``report``: what the sandbox says
    (``Job.report``), None where it was ended without a word.
    """
    if stop:
        return JobResult(stop.status, _with_note(printed, f"stopped: {stop.reason}"), seconds)
    if report is None:
        return JobResult("killed", _with_note(printed, "stopped: the sandbox was killed"), seconds)
    if report == "memory":
        note = f"stopped: used more than {limits.memory_mb} MB of memory"
        return JobResult("memory", _with_note(printed, note), seconds)
    code = _exit_code(report)
    if code == 0:
        return JobResult("ok", printed, seconds)
    if code == 128 + signal.SIGXCPU:
        return JobResult("timeout", _with_note(printed, "stopped: used too much CPU time"), seconds)
    last = printed.rstrip().rpartition("\n")[2]
    if last.partition(":")[0] in _OUT_OF_MEMORY:
        return JobResult("memory", _with_note(printed, "failed: out of memory"), seconds)
    return JobResult("error", _with_note(printed, f"failed: {_describe_exit(code)}"), seconds)


def _exit_code(report: str) -> int:
    word, _, number = report.partition(" ")
    if word in ("exit", "done") and number.isdecimal() and len(number) <= 3:
        return int(number)
    return 255


def _with_note(printed: str, note: str) -> str:
    if printed and not printed.endswith("\n"):
        printed += "\n"
    return f"{printed}[{note}]"


def _describe_exit(code: int) -> str:
    if code > 128:
        try:
            return f"ended by {signal.Signals(code - 128).name}"
        except ValueError:
            pass
    return f"exit code {code}"
