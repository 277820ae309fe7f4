"""The paper's analyses over saved trajectories: accuracy against the allowed turns, tool mix before
and after training, and tool errors, planner length and reward over training (the paper's figures 5
to 8); and how success depends on what each turn did. Each is one table with its plots.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.core.unicode import well_formed
from agentflow_verl.evaluation import plots
from agentflow_verl.evaluation.report import NO_VALUE, change, interval, number, percent
from agentflow_verl.evaluation.statistics import accuracy, difference
from agentflow_verl.evaluation.store import open_run
from agentflow_verl.evaluation.summary import by_question
from agentflow_verl.trajectories.log import ScoredTrajectory
from agentflow_verl.trajectories.run_folder import Entry, Run, attempts_of
from agentflow_verl.trajectories.turn_credit import turn_credit

Steps = dict[int, list[ScoredTrajectory]]


@dataclass(frozen=True)
class Analysis:
    """A table, its figures for a program, and its pictures by caption."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    figures: dict[str, dict[str, float | None]]
    pictures: dict[str, str] = field(default_factory=dict)

    def table(self) -> dict[str, Any]:
        """Everything but the pictures."""
        return {
            "title": self.title,
            "columns": self.columns,
            "rows": self.rows,
            "figures": self.figures,
        }


def turns(folders: Sequence[Path]) -> Analysis:
    """Accuracy against the allowed turns; ``folders`` are evaluations, one per limit."""
    rows: list[tuple[str, ...]] = []
    figures: dict[str, dict[str, float | None]] = {}
    lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
    runs = []
    for folder, run in labels(folders).items():
        header, results = open_run(folder)
        runs.append((_turn_limit(header), run, header, results))
    runs.sort(key=lambda found: found[0])
    for limit, run, header, results in runs:
        for name in header["benchmarks"]:
            entries = results.of(name)
            if not entries:
                continue
            found = accuracy(list(by_question(entries).values()), len(entries))
            taken = fmean(len(entry.trajectory.turns) for entry in entries)
            shown = interval(vars(found))
            rows.append((name, str(limit), run, shown, number(taken), str(len(entries))))
            figures[f"{name}, {limit} turns, {run}"] = {**vars(found), "turns_taken": taken}
            lines[name].append((limit, found.mean))
    columns = (
        "benchmark",
        "allowed turns",
        "run",
        "accuracy [95%]",
        "turns taken",
        "trajectories",
    )
    pictures = {}
    if lines:
        curves = plots.curves(lines, "allowed turns", "accuracy")
        pictures = {"Accuracy by allowed turns": curves}
    # The sort is stable: within a benchmark the rows stay ordered by the limit.
    rows.sort(key=lambda row: row[0])
    return Analysis("Accuracy against the allowed turns", columns, rows, figures, pictures)


def _turn_limit(header: dict[str, Any]) -> int:
    limit: int = header["settings"]["agentflow"]["max_turns"]
    return limit


def tools(folders: Sequence[Path]) -> Analysis:
    """Which tools are called in the first and in the last step of each run, that is before and
    after training.
    """
    mixes: dict[str, dict[str, float]] = {}
    counts: dict[str, tuple[int, float]] = {}
    for folder, run in labels(folders).items():
        steps = by_step(folder, ("val", "train"))
        # A run of a single step has one row, not two equal ones.
        for step in dict.fromkeys((min(steps), max(steps))):
            label = f"{run}, step {step}"
            mix = _tool_mix(steps[step])
            mixes[label] = plots.shares(dict(mix.most_common()))
            counts[label] = (len(steps[step]), sum(mix.values()) / len(steps[step]))
    names = sorted(set().union(*mixes.values()))
    rows: list[tuple[str, ...]] = []
    for label, shares in mixes.items():
        trajectories, calls = counts[label]
        cells = [percent(shares.get(name, 0.0)) for name in names]
        rows.append((label, str(trajectories), number(calls), *cells))
    columns = ("run", "trajectories", "calls per trajectory", *names)
    return Analysis(
        "Tools before and after training",
        columns,
        rows,
        {label: {**shares} for label, shares in mixes.items()},
        {"Tools called": plots.stacked(mixes)},
    )


def _tool_mix(entries: Iterable[ScoredTrajectory]) -> Counter[str]:
    """How often each tool was called."""
    mix: Counter[str] = Counter()
    for entry in entries:
        for turn in entry.trajectory.turns:
            if turn.call:
                mix[turn.call.tool] += 1
    return mix


def training(folders: Sequence[Path]) -> Analysis:
    """Reward, share of failed tool calls, and tokens per planner turn, over the steps of
    training.
    """
    rows: list[tuple[str, ...]] = []
    figures: dict[str, dict[str, float | None]] = {}
    lines: dict[str, dict[str, list[tuple[float, float]]]] = {
        "reward": {},
        "failed tool calls": {},
        "planner tokens": {},
    }
    for folder, run in labels(folders).items():
        steps = by_step(folder, ("train",))
        for step, entries in sorted(steps.items()):
            found = _training_figures(entries)
            figures[f"{run}, step {step}"] = {**found, "trajectories": len(entries)}
            rows.append(
                (
                    run,
                    str(step),
                    percent(found["reward"]),
                    percent(found["failed tool calls"]),
                    number(found["planner tokens"]),
                    str(len(entries)),
                )
            )
            for name, value in found.items():
                if value is not None:
                    lines[name].setdefault(run, []).append((step, value))
    columns = (
        "run",
        "step",
        "reward",
        "failed tool calls",
        "planner tokens a turn",
        "trajectories",
    )
    pictures = {}
    for name, curves in lines.items():
        if curves:
            caption = f"{name} over training".capitalize()
            pictures[caption] = plots.curves(curves, "step", name)
    return Analysis("Training", columns, rows, figures, pictures)


def _training_figures(entries: Iterable[ScoredTrajectory]) -> dict[str, float | None]:
    """The figures of one training step; None where no trajectory has one."""
    rewards: list[float] = []
    failed: list[float] = []
    lengths: list[float] = []
    for entry in entries:
        if entry.reward is not None:
            rewards.append(entry.reward)
        failed.extend(calls_failed(entry))
        lengths.extend(planner_lengths(entry))
    return {
        "reward": mean(rewards),
        "failed tool calls": mean(failed),
        "planner tokens": mean(lengths),
    }


def credit(folders: Sequence[Path]) -> Analysis:
    """How success depends on each turn's tool, verdict and error, within groups."""
    rows: list[tuple[str, ...]] = []
    figures: dict[str, dict[str, float | None]] = {}
    for folder, run in labels(folders).items():
        entries = entries_of(folder, ("train", "val"))
        for found in turn_credit(attempts_of(entries)):
            shown = NO_VALUE
            if found.differences:  # over the run's questions, which are the sample
                shown = change(vars(difference([found.differences])))
            rows.append(
                (
                    run,
                    str(found.turn),
                    found.aspect,
                    found.choice,
                    str(found.trajectories),
                    percent(found.success),
                    shown,
                    str(found.groups),
                )
            )
            figures[f"{run}, turn {found.turn}, {found.aspect} {found.choice}"] = {
                "trajectories": found.trajectories,
                "success": found.success,
                "difference": found.difference,
                "groups": found.groups,
            }
    columns = (
        "run",
        "turn",
        "of its",
        "was",
        "trajectories",
        "success",
        "minus its group's [95%]",
        "groups with both",
    )
    return Analysis("Success by what a turn did", columns, rows, figures)


def labels(folders: Sequence[Path]) -> dict[Path, str]:
    """What each run is called: its name, or its path as given where names are the same."""
    names = {folder: Run(folder).name for folder in folders}
    count = Counter(names.values())
    return {
        folder: name if count[name] == 1 else well_formed(str(folder))
        for folder, name in names.items()
    }


def entries_of(folder: Path, splits: Sequence[str]) -> list[Entry]:
    """A run's trajectories of the first split that has any. Raises ConfigError where none has."""
    run = Run(folder)
    run.refresh()
    for split in splits:
        entries = [entry for entry in run.entries if entry.split == split]
        if entries:
            return entries
    raise ConfigError(
        f"{run.log}: no trajectories of {' or '.join(splits)}; expected step_N/*.jsonl there, as a"
        " run writes them"
    )


def by_step(folder: Path, splits: Sequence[str]) -> Steps:
    """A run's trajectories by step, of the first split that has any. Raises ConfigError where none
    has.
    """
    steps: Steps = defaultdict(list)
    for entry in entries_of(folder, splits):
        steps[entry.step].append(entry.read())
    return steps


def calls_failed(entry: ScoredTrajectory) -> list[bool]:
    """For each turn with a parsed plan: whether its call failed or could not be made."""
    return [
        turn.result is None or turn.result.is_error
        for turn in entry.trajectory.turns
        if turn.plan is not None
    ]


def planner_lengths(entry: ScoredTrajectory) -> list[int]:
    """Tokens of each planner reply as counted by the engine, which also works for endpoints that
    return no token ids.
    """
    return [
        reply.response_tokens
        for reply in entry.trajectory.all_replies()
        if reply.module == "planner"
    ]


def mean(values: Sequence[float]) -> float | None:
    if not values:
        return None
    return fmean(values)
