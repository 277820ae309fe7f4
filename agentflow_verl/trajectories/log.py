"""Trajectories with their outcome reward: the record, the log of a run, and how reports and viewers
read it.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.core.private_files import PRIVATE, append_private, make_private_folder
from agentflow_verl.trajectories.records import Record, Trajectory


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
    """Read trajectories back, in the order of steps; all steps, or one."""
    pattern = "step_*" if step is None else f"step_{step:06d}"
    files = sorted((folder / split).glob(f"{pattern}/*.jsonl"))
    lines = (
        line for file in files for line in file.read_text(encoding="utf-8").split("\n")
    )  # not splitlines: U+2028
    return [ScoredTrajectory.model_validate_json(line) for line in lines if line]


def read_trajectories(path: Path) -> list[Trajectory]:
    """The trajectories of one file: of the log, one per line, or a single one as ``agentflow solve
    --json`` writes it. Raises ConfigError for a file that holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 (byte {error.start}), so it is not a file of trajectories"
        ) from None
    try:
        if path.suffix != ".jsonl":
            return [Trajectory.model_validate_json(text)]
        lines = [line for line in text.split("\n") if line]
        return [ScoredTrajectory.model_validate_json(line).trajectory for line in lines]
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"{path} is not a file of trajectories: {place}: {first['msg']}"
        ) from None
