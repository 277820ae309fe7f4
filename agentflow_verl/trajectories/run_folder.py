"""What a run left in its folder: the trajectory log, metrics of verl's file logger, Hydra's config,
a tokenizer.

A log is read once, line by line, into small ``Entry`` records; the lines themselves stay on disk
until they are shown. ``refresh`` reads only what was appended since, so a live run can be followed.
What cannot be read is left out and said in ``notes``: one bad file costs its part, not the run.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.core.unicode import well_formed
from agentflow_verl.trajectories.log import ScoredTrajectory
from agentflow_verl.trajectories.records import Outcome, Trajectory
from agentflow_verl.trajectories.safe_files import (
    MAX_LINE_BYTES,
    Unreadable,
    complete_lines,
    open_regular,
    read_bounded,
)
from agentflow_verl.trajectories.turn_credit import Attempt, TurnChoices, choices_of

logger = logging.getLogger(__name__)

SPLITS = ("train", "val")
MAX_METRICS_BYTES = 256 << 20  # of one file
MAX_CONFIG_BYTES = 4 << 20
BAD_LINES = 20  # of a metrics file before the rest of it is left alone


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
    error: str | None
    outcome: Outcome
    turns: int
    calls: Mapping[str, int]  # by module, with tokens kept: rows where the module is trained
    tokens: int  # the planner's replies
    tools: tuple[str, ...]  # called, in order
    timings: dict[str, float]  # seconds by part
    choices: tuple[TurnChoices, ...] = ()  # what was done, turn by turn

    def read(self) -> ScoredTrajectory:
        """The whole trajectory, from disk. Raises Unreadable where it is no longer there."""
        with open_regular(self.path) as file:
            file.seek(self.offset)
            content = file.read(self.size)
        try:
            return parse_scored(content)
        except ValidationError:
            raise Unreadable("it changed on disk since the log was read") from None


class Run:
    """A folder with a trajectory log in ``trajectories/``, that folder itself, or one file: of the
    log, or what ``agentflow solve --json`` wrote. Raises ConfigError where there is neither.
    """

    def __init__(self, folder: Path):
        if not folder.is_dir() and not folder.is_file():
            raise ConfigError(
                f"{folder}: there is no such folder; name the one that a run wrote its"
                " trajectories to"
            )
        self.folder = folder.resolve()
        self.file = self.folder if self.folder.is_file() else None
        is_log = any((self.folder / split).is_dir() for split in SPLITS)
        self.log = self.folder if is_log or self.file else self.folder / "trajectories"
        named = self.folder
        if is_log and self.folder.name == "trajectories":
            named = self.folder.parent
        self.name = well_formed(named.name)
        self.entries: list[Entry] = []
        self.curves: dict[str, dict[int, float]] = {}
        self._notes: dict[Path, str] = {}
        self._read: dict[Path, int] = {}  # bytes of each file that were read
        self._inodes: dict[Path, int] = {}
        self._sources: dict[int, Path] = {}  # the file that a step's metrics are from
        self._bad_lines: Counter[Path] = Counter()

    @property
    def notes(self) -> list[str]:
        """What could not be read, one line per file."""
        return [f"{well_formed(str(path))}: {reason}" for path, reason in self._notes.items()]

    def refresh(self) -> bool:
        """Read what was appended, and anew what a resumed run has set aside or written again.
        Whether there was anything.
        """
        forgotten = self._forget_changed()
        before = sum(self._read.values())
        if self.file is not None:
            self._read_log(self.file)
            return forgotten or sum(self._read.values()) > before
        for split in SPLITS:
            for path in sorted((self.log / split).glob("step_*/*.jsonl")):
                self._read_log(path)
        for path in sorted(self.folder.glob("*.jsonl")):
            self._read_metrics(path)
        return forgotten or sum(self._read.values()) > before

    def _forget_changed(self) -> bool:
        """Drop the entries of files that are gone, shorter, or another file by now. Whether there
        were any.
        """
        changed = set()
        for path, read in self._read.items():
            try:
                status = path.stat()
            except OSError:
                changed.add(path)
                continue
            if status.st_size < read or status.st_ino != self._inodes.get(path, status.st_ino):
                changed.add(path)
        for path in changed:
            del self._read[path]
            self._notes.pop(path, None)
            self._bad_lines.pop(path, None)
        if changed:
            self.entries = [entry for entry in self.entries if entry.path not in changed]
        return bool(changed)

    def note(self, path: Path, reason: str) -> None:
        """Remember why a file, or a part of it, is left out; said once in the log."""
        if path not in self._notes:
            logger.warning("%s: %s", well_formed(str(path)), reason)
        self._notes[path] = reason

    def _read_log(self, path: Path) -> None:
        if path.suffix != ".jsonl":
            self._read_single(path)
            return
        broken = 0
        for offset, line in self._new_lines(path):
            entry = None if line is None else parse_entry(path, offset, line)
            if entry is None:
                broken += 1
                self.note(path, f"{broken} lines are no trajectories, the last at byte {offset}")
            else:
                self.entries.append(entry)

    def _read_single(self, path: Path) -> None:
        """A file of one trajectory, over several lines."""
        if path in self._read:
            return
        try:
            content = read_bounded(path, MAX_LINE_BYTES)
        except Unreadable as error:
            self.note(path, str(error))
            return
        self._read[path] = len(content)
        entry = parse_entry(path, 0, content)
        if entry is None:
            self.note(path, "not a trajectory")
        else:
            self.entries.append(entry)

    def _read_metrics(self, path: Path) -> None:
        for offset, line in self._new_lines(path):
            if offset > MAX_METRICS_BYTES:
                self.note(path, f"only its first {MAX_METRICS_BYTES >> 20} MB are read")
                return
            if self._bad_lines[path] > BAD_LINES:
                return
            if line is None or not self._add_metrics(path, line):
                self._bad_lines[path] += 1
                self.note(path, "has lines that are no metrics of verl's file logger")

    def _new_lines(self, path: Path) -> Iterator[tuple[int, bytes | None]]:
        """Complete lines after those that were read, with their offsets; None for one that is too
        long. A line still being written waits.
        """
        try:
            file = open_regular(path)
        except Unreadable as error:
            self.note(path, str(error))
            return
        with file:
            self._inodes[path] = os.fstat(file.fileno()).st_ino
            for offset, line, after in complete_lines(file, self._read.get(path, 0)):
                yield offset, line
                self._read[path] = after

    def _add_metrics(self, path: Path, line: bytes) -> bool:
        """Whether the line was one of verl's file logger."""
        try:
            row = json.loads(line)
            step, data = int(row["step"]), dict(row["data"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return False
        # A resumed run makes steps again, which replace those of the file before. To the step of
        # its checkpoint it may add a validation.
        adds = all(str(name).startswith("val-") for name in data)
        if not adds and self._sources.get(step, path) != path:
            for name, curve in list(self.curves.items()):
                curve.pop(step, None)
                if not curve:
                    del self.curves[name]
        self._sources[step] = path
        for name, value in data.items():
            if isinstance(value, (int, float)):
                self.curves.setdefault(well_formed(str(name)), {})[step] = as_float(value)
        return True

    @cached_property
    def config(self) -> dict[str, Any]:
        """What Hydra wrote; empty where it wrote nothing here that can be read."""
        if self.file is not None:
            return {}
        path = next(self.folder.glob("**/.hydra/config.yaml"), None)
        if path is None:
            return {}
        try:
            content = yaml.safe_load(read_bounded(path, MAX_CONFIG_BYTES))
        except (Unreadable, yaml.YAMLError, UnicodeError, ValueError) as error:
            self.note(path, str(error).splitlines()[0])
            return {}
        except RecursionError:
            self.note(path, "nested too deeply")
            return {}
        if not isinstance(content, dict):
            self.note(path, "not a mapping")
            return {}
        return content

    def option(self, *keys: str) -> Any:
        """One option of the run's configuration; None where it is not set."""
        node: Any = self.config
        for key in keys:
            node = node.get(key) if isinstance(node, dict) else None
        return node

    @cached_property
    def tokenizer(self) -> Path | None:
        """The tokenizer that was saved with the run's weights, or that of the model it started
        from.
        """
        if self.file is not None:
            return None
        model = Path(str(self.option("actor_rollout_ref", "model", "path") or ""))
        saved = next(self.folder.glob("**/tokenizer.json"), model / "tokenizer.json")
        try:
            return saved if saved.is_file() else None
        except (OSError, ValueError):  # a path that is too long, or holds a zero byte
            return None


def as_float(value: float) -> float:
    """An integer may be larger than any float."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def attempts_of(entries: Iterable[Entry]) -> list[Attempt]:
    """The scored trajectories among ``entries``, which may be of several steps."""
    attempts = []
    for entry in entries:
        if entry.outcome.valid and entry.reward is not None:
            group = (entry.split, entry.step, entry.group)
            question = (entry.data_source, entry.query)
            attempts.append(Attempt(group, question, entry.reward >= 1.0, entry.choices))
    return attempts


def parse_scored(content: bytes) -> ScoredTrajectory:
    """A line of the log, or a trajectory alone, which has no score. Raises ValidationError."""
    try:
        return ScoredTrajectory.model_validate_json(content)
    except ValidationError as error:
        try:
            trajectory = Trajectory.model_validate_json(content)
        except ValidationError:
            raise error from None
    return ScoredTrajectory(
        step=0,
        split="val",
        group=trajectory.id,
        session=0,
        data_source="",
        trajectory=trajectory,
    )


def parse_entry(path: Path, offset: int, content: bytes) -> Entry | None:
    """None where the bytes are no trajectory."""
    try:
        scored = parse_scored(content)
    except ValidationError:
        return None
    trajectory = scored.trajectory
    calls: Counter[str] = Counter()
    planned = 0
    for reply, tokens in trajectory.replies_in_order():
        calls[reply.module] += tokens is not None and bool(tokens.response_ids)
        if reply.module == "planner":
            planned += reply.response_tokens
    called = []
    for turn in trajectory.turns:
        if turn.call is not None and turn.result is not None:
            called.append(turn.call.tool)
    return Entry(
        path=path,
        offset=offset,
        size=len(content),
        step=scored.step,
        split=scored.split,
        group=scored.group,
        session=scored.session,
        data_source=scored.data_source,
        ground_truth=scored.ground_truth,
        reward=scored.reward,
        query=trajectory.query,
        answer=trajectory.answer,
        error=trajectory.error,
        outcome=trajectory.outcome,
        turns=len(trajectory.turns),
        calls=calls,
        tokens=planned,
        tools=tuple(called),
        timings=trajectory.timings,
        choices=tuple(map(choices_of, trajectory.turns)),
    )
