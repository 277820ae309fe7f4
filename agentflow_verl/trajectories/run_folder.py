"""What a run left in its folder: the trajectory log, metrics of verl's file logger, Hydra's config,
a tokenizer.

A log is read once, line by line, into small ``Entry`` records; the lines themselves stay on disk
until they are shown. ``refresh`` reads only what was appended since, so a live run can be followed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trajectories.log import ScoredTrajectory
from agentflow_verl.trajectories.records import Outcome

logger = logging.getLogger(__name__)

SPLITS = ("train", "val")


@dataclass(frozen=True)
class Entry:
    """One logged trajectory: where its line is, and what lists and charts need of it."""

    path: Path
    offset: int  # bytes
    size: int  # bytes
    step: int
    split: str
    group: str
    session: int
    data_source: str
    ground_truth: Any
    reward: float | None
    query: str
    answer: str
    outcome: Outcome
    turns: int
    rows: int  # turns that the planner replied to: rows of the update
    tokens: int  # the planner's, sampled
    tools: tuple[str, ...]  # called, in order
    timings: dict[str, float]  # seconds by part

    def read(self) -> ScoredTrajectory:
        """The whole trajectory, from disk."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return ScoredTrajectory.model_validate_json(file.read(self.size))


class Run:
    """A folder with a trajectory log in ``trajectories/``, or that folder itself. Raises
    ConfigError where there is no folder.
    """

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise ConfigError(
                f"{folder}: there is no such folder; name the one that a run wrote its"
                " trajectories to"
            )
        self.folder = folder.resolve()
        bare = any((self.folder / split).is_dir() for split in SPLITS)
        self.log = self.folder if bare else self.folder / "trajectories"
        self.name = (
            self.folder.parent.name
            if bare and self.folder.name == "trajectories"
            else self.folder.name
        )
        self.entries: list[Entry] = []
        self.curves: dict[str, dict[int, float]] = {}
        self._read: dict[Path, int] = {}  # bytes of each file that were read

    def refresh(self) -> bool:
        """Read what was appended. Whether there was anything."""
        before = sum(self._read.values())
        for split in SPLITS:
            for path in sorted((self.log / split).glob("step_*/*.jsonl")):
                self.entries += (
                    entry
                    for offset, line in self._new_lines(path)
                    if (entry := _entry(path, offset, line))
                )
        for path in sorted(self.folder.glob("*.jsonl")):
            for _, line in self._new_lines(path):
                self._note_metrics(path, line)
        return sum(self._read.values()) > before

    def _new_lines(self, path: Path) -> Iterator[tuple[int, bytes]]:
        """Complete lines after those that were read, with their offsets. A line still being written
        waits.
        """
        offset = self._read.get(path, 0)
        with path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                yield offset, line
                offset += len(line)
                self._read[path] = offset

    def _note_metrics(self, path: Path, line: bytes) -> None:
        try:
            row = json.loads(line)
            step, data = int(row["step"]), dict(row["data"])
        except (ValueError, KeyError, TypeError):
            logger.warning("%s: a line is no metrics of verl's file logger; left out", path)
            return
        for name, value in data.items():
            if isinstance(value, (int, float)):
                self.curves.setdefault(name, {})[step] = value

    @cached_property
    def config(self) -> dict[str, Any]:
        """What Hydra wrote; empty where it wrote nothing here."""
        path = next(self.folder.glob("**/.hydra/config.yaml"), None)
        return {} if path is None else yaml.safe_load(path.read_text(encoding="utf-8"))

    @cached_property
    def tokenizer(self) -> Path | None:
        """The tokenizer that was saved with the run's weights, or that of the model it started
        from.
        """
        model = Path(str(self.config.get("actor_rollout_ref", {}).get("model", {}).get("path", "")))
        saved = next(self.folder.glob("**/tokenizer.json"), model / "tokenizer.json")
        return saved if saved.is_file() else None


def _entry(path: Path, offset: int, line: bytes) -> Entry | None:
    try:
        scored = ScoredTrajectory.model_validate_json(line)
    except ValidationError as wrong:
        logger.warning(
            "%s, byte %d: not a trajectory, left out: %s", path, offset, wrong.errors()[0]["msg"]
        )
        return None
    trajectory = scored.trajectory
    sampled = [
        len(turn.tokens.response_ids)
        for turn in trajectory.turns
        if turn.tokens is not None and turn.tokens.response_ids
    ]
    return Entry(
        path=path,
        offset=offset,
        size=len(line),
        step=scored.step,
        split=scored.split,
        group=scored.group,
        session=scored.session,
        data_source=scored.data_source,
        ground_truth=scored.ground_truth,
        reward=scored.reward,
        query=trajectory.query,
        answer=trajectory.answer,
        outcome=trajectory.outcome,
        turns=len(trajectory.turns),
        rows=len(sampled),
        tokens=sum(sampled),
        tools=tuple(
            turn.call.tool
            for turn in trajectory.turns
            if turn.call is not None and turn.result is not None
        ),
        timings=trajectory.timings,
    )
