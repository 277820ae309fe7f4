"""What a job may use, its result, and how the sandbox itself can fail."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

Status = Literal["ok", "error", "timeout", "memory", "output", "killed"]


class SandboxError(Exception):
    """The sandbox itself failed: nothing the program did. The message says why."""


class Busy(SandboxError):
    """Every slot was taken until the deadline; the program was never started."""


class StateLost(SandboxError):
    """The variables and files that the program counts on are gone; it was never started."""


@dataclass(frozen=True)
class Limits:
    """Limits of one job. A limit of a process holds for each of them, one of the job for all of its
    processes together.
    """

    seconds: float = 10.0
    """Wall clock of the job, and CPU time of a process, in seconds."""
    memory_mb: int = 1024
    """Address space of a process, and memory in use by the job, in MiB."""
    processes: int = 16
    """Processes and threads of the job. Forks and exits take locks that every other job's take too:
    beside 16 attackers, fork bombs among them, 19 of 20 honest programs ended within 330 ms with a
    limit of 64, within 36 ms with 16."""
    disk_mb: int = 64
    """Space in /tmp, in /dev/shm, and in any one file, in MiB."""
    files: int = 10_000
    """Files in /tmp and in /dev/shm."""
    open_files: int = 128
    """File descriptors of a process."""
    output_mb: int = 8
    """What a job may print before it is stopped, in MiB."""
    shown_bytes: int = 4_096
    """What is shown of that: its beginning and, mostly, its end."""

    def allowed_seconds(self, wanted: float | None) -> float:
        """Seconds for a call that asks for ``wanted``, or for as many as there are."""
        return self.seconds if wanted is None else min(self.seconds, wanted)

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(f"{field.name} must be above 0, not {getattr(self, field.name)}")


@dataclass(frozen=True)
class JobResult:
    """How a program ended.

    ``output``: what it printed, and, on a last line in square brackets, why it was stopped or
    failed.
    """

    status: Status
    output: str
    seconds: float
    """From the start of the program to its end, or to when it was stopped."""
    kept: bool = False
    """Whether the sandbox stays, with its variables and files, for the next program of its
    trajectory.
    """
