"""What a job may use, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

Status = Literal["ok", "error", "timeout", "memory", "output", "killed"]


class SandboxError(Exception):
    """The sandbox itself failed: nothing the program did. The message says why."""


class Busy(SandboxError):
    """Every slot was taken until the deadline; the program was never started."""


class StateLost(SandboxError):
    """The caller goes on from what earlier programs left, which is no longer there; the program was
    never started.
    """


@dataclass(frozen=True)
class Limits:
    """Limits of one job. Those of a process hold for each; those of the job hold for all its
    processes together.
    """

    seconds: float = 10.0
    """Wall clock of the job, and CPU time of a process, in seconds."""
    memory_mb: int = 1024
    """Address space of a process, and memory in use by the job, in MiB."""
    processes: int = 16
    """Processes and threads of the job. Forks and their ends hold up every other job: beside 16
    attackers, fork bombs among them, 19 of 20 honest programs ended within 330 ms with 64, within
    36 ms with 16."""
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

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(f"{field.name} must be above 0, not {getattr(self, field.name)}")


@dataclass(frozen=True)
class JobResult:
    """``output`` is what the program printed, and last, in square brackets, why it did not end by
    itself.
    """

    status: Status
    output: str
    seconds: float
    """From its program's start to its end, or to when it was stopped."""
    kept: bool = False
    """Whether its sandbox stays, with its variables and files, for the next program of its
    trajectory.
    """
