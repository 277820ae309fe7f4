"""A run's folder: ``run.json`` (what is measured, with what), ``trajectories/`` (the log), and what
is left to do.

A run that was killed resumes where it stopped: trajectories in the log are not repeated, except
those that ended in an infrastructure fault. A run resumes only with the settings it began with;
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
from agentflow_verl.evaluation.settings import comparable
from agentflow_verl.trajectories.log import ScoredTrajectory, TrajectoryLog, entry_of, read_log

HEADER = "run.json"
LOG = "trajectories"
SPLIT = "val"
# Parts of the header that may not change when a run is resumed.
FIXED = ("settings", "engines", "tools")
PARTS = (*FIXED, "benchmarks", "sessions", "versions")


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
    """The log's content: the scored trajectory of each job, and how many ended in faults."""

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
        """The scored trajectories of one benchmark, by question and trial.

        They ended in any order; sums of floats, and with them a report's last digits, depend on it.
        """
        keys = [key for key in self.scored if key.split("/", 1)[0] == benchmark]
        return [self.scored[key] for key in sorted(keys, key=_order)]


class Store:
    """One run's folder."""

    def __init__(self, folder: Path, umask: int = PRIVATE):
        self.folder = folder
        self.log = TrajectoryLog(folder / LOG, umask)

    @property
    def header(self) -> dict[str, Any] | None:
        """What ``run.json`` holds; None before the first run. Raises ConfigError where it is none
        of a run's.
        """
        path = self.folder / HEADER
        if not path.is_file():
            return None
        try:
            header: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise ConfigError(f"{path} is damaged: {error}") from None
        if not _is_header(header):
            raise ConfigError(f"{path} is not the header of an agentflow eval")
        return header

    def begin(self, header: dict[str, Any], benchmarks: Sequence[Benchmark]) -> dict[str, Any]:
        """Write the header, or check it against the one that is there. A line that a killed process
        left unfinished is cut off the log.

        Raises:
            ConfigError: the folder holds a run with other settings, or with other files of the same
                benchmarks.
        """
        known: dict[str, Any] = {}
        sessions: list[dict[str, Any]] = []
        before = self.header
        if before is not None:
            before = {**before, "settings": comparable(before["settings"])}
            schema = "policy_schema"
            if schema in header["settings"] and schema not in before["settings"]:
                raise ConfigError(
                    f"{self.folder}: an older version held all modules on policy to a schema, as"
                    " training does not; choose another --out"
                )
            for part in FIXED:
                # Through JSON, as what was read has been: tuples become lists, keys strings.
                _compare(before[part], json.loads(json.dumps(header[part])), part, self.folder)
            known, sessions = before["benchmarks"], before["sessions"]
        for benchmark in benchmarks:
            earlier = known.get(benchmark.name, {})
            if earlier and earlier["sha256"] != benchmark.sha256:
                raise ConfigError(
                    f"{self.folder}: began with another file for {benchmark.name}; choose another"
                    " --out"
                )
            trials = max(header["trials"], earlier.get("trials", 0))
            known[benchmark.name] = _about(benchmark, trials)
        merged = {
            **header,
            "benchmarks": known,
            "sessions": [*sessions, {"began": now(), "seconds": None}],
        }
        for path in (self.folder / LOG).glob("*/step_*/*.jsonl"):
            _cut_unfinished(path)
        self._write(merged)
        return merged

    def complete(
        self, settings: dict[str, Any], benchmarks: Sequence[Benchmark], trials: int
    ) -> bool:
        """Whether nothing is left to do with these settings and files, so that a report needs no
        server.
        """
        header = self.header
        if header is None:
            return False
        if comparable(header["settings"]) != json.loads(json.dumps(settings)):
            return False
        for benchmark in benchmarks:
            if header["benchmarks"].get(benchmark.name, {}).get("sha256") != benchmark.sha256:
                return False
        return not any(left(jobs(benchmarks, trials), self.results()))

    def finish(self, header: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Record how long this session took. A killed session never gets here: its time remains
        unknown.
        """
        header["sessions"][-1]["seconds"] = round(seconds, 3)
        self._write(header)
        return header

    def results(self) -> Results:
        """Read the log as far as it is written, and change nothing."""
        results = Results()
        for entry in read_log(self.folder / LOG, SPLIT):
            results.add(entry)
        return results

    def _write(self, header: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / HEADER
        # Renamed into place: a process killed here leaves the old header, never half of the new.
        new = path.with_suffix(".new")
        new.write_text(json.dumps(header, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        new.replace(path)


def _is_header(content: Any) -> bool:
    if not isinstance(content, dict) or not set(PARTS) <= set(content):
        return False
    settings = content["settings"]
    return isinstance(settings, dict) and isinstance(settings.get("agentflow"), dict)


def jobs(benchmarks: Iterable[Benchmark], trials: int) -> list[Job]:
    """Every trajectory of a run, trial by trial, so that a run that is stopped early has complete
    trials.
    """
    questions: list[Question] = []
    for benchmark in benchmarks:
        questions.extend(benchmark.questions)
    planned: list[Job] = []
    for trial in range(trials):
        planned.extend(Job(question, trial) for question in questions)
    return planned


def left(planned: Iterable[Job], results: Results) -> Iterator[Job]:
    """The jobs that are not scored yet."""
    for job in planned:
        if job.id not in results.scored:
            yield job


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
    """Sort key of a job: benchmark, then ids that are not numbers by text, then numbers by value,
    then the trial.
    """
    benchmark, rest = key.split("/", 1)
    question, trial = rest.rsplit("/", 1)
    number = -1
    if question.isdecimal():
        number = int(question)
    return benchmark, number, question, int(trial)


def _about(benchmark: Benchmark, trials: int) -> dict[str, Any]:
    """What the header records of a benchmark."""
    too_short = [question for question in benchmark.questions if not guarded(question.text)]
    return {
        "file": str(benchmark.path),
        "sha256": benchmark.sha256,
        "left_out": benchmark.left_out,
        "questions": [question.id for question in benchmark.questions],
        "too_short": len(too_short),  # for the leakage guard
        "trials": trials,
    }


def _compare(before: Any, after: Any, where: str, folder: Path) -> None:
    """Raise ConfigError for the first setting that differs, named by its dotted path."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys((*before, *after)):
            _compare(before.get(key), after.get(key), f"{where}.{key}", folder)
    elif before != after:
        raise ConfigError(
            f"{folder}: began with {where} = {before!r}, now it is {after!r}; choose another --out,"
            " or restore the earlier setting"
        )


def _cut_unfinished(path: Path) -> None:
    """Truncate the file after its last newline, where a killed process left part of a record: the
    first one that is appended would join it. A whole one gets its newline.
    """
    with path.open("rb+") as file:
        content = file.read()
        end = content.rfind(b"\n") + 1
        if end == len(content):
            return
        if entry_of(content[end:]) is None:
            file.truncate(end)
        else:
            file.write(b"\n")
