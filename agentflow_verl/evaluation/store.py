"""A run's folder: ``run.json`` (what is measured, with what), ``trajectories/`` (the log), and what
is left to do.

A run that was killed goes on where it stopped: what the log has is not asked again, but for
trajectories that an infrastructure fault ended. A run goes on only with the settings it began with;
benchmarks, trials and questions may be added.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.core.private_files import PRIVATE
from agentflow_verl.evaluation.leakage import guarded
from agentflow_verl.evaluation.questions import Benchmark, Question
from agentflow_verl.trajectories.log import ScoredTrajectory, TrajectoryLog, read_log

HEADER = "run.json"
LOG = "trajectories"
SPLIT = "val"
FIXED = (
    "settings",
    "engines",
    "tools",
)  # parts of the header that may not change while a run goes on


@dataclass(frozen=True)
class Job:
    """One trajectory to be made."""

    question: Question
    trial: int

    @property
    def id(self) -> str:
        return f"{self.question.key}/{self.trial}"


@dataclass
class Results:
    """What the log has: the scored trajectory of each job, and how many were ended by faults."""

    scored: dict[str, ScoredTrajectory] = field(default_factory=dict)
    unscored: dict[str, ScoredTrajectory] = field(default_factory=dict)  # only faults so far
    faults: int = 0

    def add(self, entry: ScoredTrajectory) -> None:
        key = f"{entry.group}/{entry.session}"
        if entry.reward is None:
            self.faults += 1
            if key not in self.scored:
                self.unscored[key] = entry
        else:
            self.scored.setdefault(key, entry)
            self.unscored.pop(key, None)

    def of(self, benchmark: str) -> list[ScoredTrajectory]:
        """The scored trajectories of one benchmark, in an order that does not depend on when they
        ended.
        """
        return [
            self.scored[key]
            for key in sorted(self.scored, key=_order)
            if key.split("/", 1)[0] == benchmark
        ]


class Store:
    """One run's folder."""

    def __init__(self, folder: Path, umask: int = PRIVATE):
        self.folder = folder
        self.log = TrajectoryLog(folder / LOG, umask)

    @property
    def header(self) -> dict[str, Any] | None:
        """What ``run.json`` holds; None before the first run."""
        path = self.folder / HEADER
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def begin(self, header: dict[str, Any], benchmarks: Sequence[Benchmark]) -> dict[str, Any]:
        """Write the header, or check it against the one that is there.

        Raises:
            ConfigError: the folder holds a run with other settings, or with other files of the same
                benchmarks.
        """
        before = self.header
        if before is not None:
            for part in FIXED:
                _compare(before[part], json.loads(json.dumps(header[part])), part, self.folder)
        known = {} if before is None else before["benchmarks"]
        for benchmark in benchmarks:
            if benchmark.name in known and known[benchmark.name]["sha256"] != benchmark.sha256:
                raise ConfigError(
                    f"{self.folder}: began with another file for {benchmark.name}; choose another"
                    " --out"
                )
            known[benchmark.name] = {
                "file": str(benchmark.path),
                "sha256": benchmark.sha256,
                "left_out": benchmark.left_out,
                "questions": [question.id for question in benchmark.questions],
                "too_short": sum(
                    not guarded(question.text) for question in benchmark.questions
                ),  # for the leakage guard
                "trials": max(header["trials"], known.get(benchmark.name, {}).get("trials", 0)),
            }
        sessions = [] if before is None else before["sessions"]
        merged = {
            **header,
            "benchmarks": known,
            "sessions": [*sessions, {"began": now(), "seconds": None}],
        }
        self._write(merged)
        return merged

    def complete(
        self, settings: dict[str, Any], benchmarks: Sequence[Benchmark], trials: int
    ) -> bool:
        """Whether nothing is left to do, with these settings and files: a report then needs no
        server.
        """
        header = self.header
        if header is None or header["settings"] != json.loads(json.dumps(settings)):
            return False
        same = all(
            header["benchmarks"].get(benchmark.name, {}).get("sha256") == benchmark.sha256
            for benchmark in benchmarks
        )
        return same and not any(left(jobs(benchmarks, trials), self.results()))

    def finish(self, header: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Note how long this session took. A killed session never gets here: its time stays
        unknown.
        """
        header["sessions"][-1]["seconds"] = round(seconds, 3)
        self._write(header)
        return header

    def results(self) -> Results:
        """The log, after a line that a killed process left unfinished was cut off."""
        for path in (self.folder / LOG).glob("*/step_*/*.jsonl"):
            _cut_unfinished(path)
        results = Results()
        for entry in read_log(self.folder / LOG, SPLIT):
            results.add(entry)
        return results

    def _write(self, header: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / HEADER
        new = path.with_suffix(".new")
        new.write_text(json.dumps(header, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        new.replace(path)


def jobs(benchmarks: Iterable[Benchmark], trials: int) -> list[Job]:
    """Every trajectory of a run, trial by trial, so that a run that is stopped early has whole
    trials.
    """
    benchmarks = list(benchmarks)
    return [
        Job(question, trial)
        for trial in range(trials)
        for benchmark in benchmarks
        for question in benchmark.questions
    ]


def left(planned: Iterable[Job], results: Results) -> Iterator[Job]:
    """The jobs that are not scored yet."""
    return (job for job in planned if job.id not in results.scored)


def open_run(folder: Path) -> tuple[dict[str, Any], Results]:
    """Header and results of a finished or unfinished run. ``ConfigError`` where there is none."""
    store = Store(folder)
    header = store.header
    if header is None:
        raise ConfigError(f"{folder}: no {HEADER}; name the --out folder of an agentflow eval")
    return header, store.results()


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _order(key: str) -> tuple[str, int, str, int]:
    benchmark, rest = key.split("/", 1)
    question, trial = rest.rsplit("/", 1)
    return benchmark, int(question) if question.isdecimal() else -1, question, int(trial)


def _compare(before: Any, after: Any, where: str, folder: Path) -> None:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in (*before, *(key for key in after if key not in before)):
            _compare(before.get(key), after.get(key), f"{where}.{key}", folder)
    elif before != after:
        raise ConfigError(
            f"{folder}: began with {where} = {before!r}, now it is {after!r}; choose another --out,"
            " or go back to what it was"
        )


def _cut_unfinished(path: Path) -> None:
    with path.open("rb+") as file:
        content = file.read()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            file.truncate(end)
