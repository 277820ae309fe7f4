"""Trajectories with their outcome reward: the record, the log of a run, and how reports and viewers
read it.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.core.private_files import PRIVATE, append_private, make_private_folder
from agentflow_verl.trajectories.records import Record, Trajectory, first_mistake
from agentflow_verl.trajectories.safe_files import (
    MAX_LINE_BYTES,
    Unreadable,
    complete_lines,
    open_regular,
)

logger = logging.getLogger(__name__)


class ScoredTrajectory(Record):
    """One line of the trajectory log."""

    step: int
    split: str  # "train" or "val"
    group: str  # the prompt's uid
    session: int  # the trajectory's number in its group
    data_source: str
    ground_truth: Any = None
    reward: float | None = None  # None: not scored, an infrastructure fault
    scores: dict[str, Any] = {}
    trajectory: Trajectory


class TrajectoryLog:
    """Scored trajectories as JSON lines: ``{folder}/{train|val}/step_{N}/{worker}.jsonl``.
    ``write`` may be called from any thread. Files and folders are private unless ``umask`` says
    otherwise.
    """

    def __init__(self, folder: Path, umask: int = PRIVATE):
        self.folder = folder
        self.umask = umask
        self.worker = f"{os.uname().nodename}-{os.getpid()}"
        self._one_at_a_time = threading.Lock()

    def write(self, scored: ScoredTrajectory) -> None:
        path = self.folder / scored.split / f"step_{scored.step:06d}" / f"{self.worker}.jsonl"
        line = scored.model_dump_json() + "\n"
        with self._one_at_a_time:
            make_private_folder(path.parent, self.umask)
            with append_private(path, self.umask) as file:
                file.write(line)


def read_log(folder: Path, split: str = "train", step: int | None = None) -> list[ScoredTrajectory]:
    """Read trajectories back, in the order of steps; all steps, or one. What is still being written
    is left out, and so are broken lines, with a warning.

    Raises:
        ConfigError: a file cannot be read.
    """
    pattern = "step_*" if step is None else f"step_{step:06d}"
    found: list[ScoredTrajectory] = []
    for path in sorted((folder / split).glob(f"{pattern}/*.jsonl")):
        scored, broken = _read_lines(path)
        _warn(path, broken)
        found += scored
    return found


def read_trajectories(path: Path) -> list[Trajectory]:
    """The trajectories of one file: of the log, one per line, or a single one as ``agentflow solve
    --json`` writes it. Of the log's lines some may be broken, as in ``read_log``.

    Raises:
        ConfigError: the file cannot be read, or holds something else.
    """
    if path.suffix == ".jsonl":
        scored, broken = _read_lines(path)
        if broken and not scored:
            raise ConfigError(f"{path} is not a file of trajectories: {broken[0]}")
        _warn(path, broken)
        return [entry.trajectory for entry in scored]
    try:
        return [Trajectory.model_validate_json(path.read_bytes())]
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise ConfigError(f"{path} is not a file of trajectories: {first_mistake(error)}") from None


def _read_lines(path: Path) -> tuple[list[ScoredTrajectory], list[str]]:
    """The entries of a file of the log, and of each broken line its number and what is wrong.
    Raises ConfigError where the file cannot be read.
    """
    found, broken = [], []
    try:
        with open_regular(path) as file:
            end = 0
            for number, (_, line, after) in enumerate(complete_lines(file, 0), start=1):
                end = after
                try:
                    found.append(ScoredTrajectory.model_validate_json(line or b""))
                except ValidationError as error:
                    reason = "too long" if line is None else first_mistake(error)
                    broken.append(f"line {number}: {reason}")
            file.seek(end)
            last = entry_of(file.read(MAX_LINE_BYTES))  # as much of one as is written by now
    except (OSError, Unreadable) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    if last is not None:
        found.append(last)
    return found, broken


def _warn(path: Path, broken: list[str]) -> None:
    if broken:
        logger.warning("%s: %d of its lines left out; %s", path, len(broken), broken[-1])


def entry_of(line: bytes) -> ScoredTrajectory | None:
    """None where the bytes are no entry of the log, or a part of one."""
    try:
        return ScoredTrajectory.model_validate_json(line)
    except ValidationError:
        return None
