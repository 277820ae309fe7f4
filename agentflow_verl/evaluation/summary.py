"""The figures of a run, from its header and its log alone, so that a report can be made again at
any time.

An accuracy is over scored trajectories. One that faults ended is not scored: it is counted as
missing, and a benchmark with missing trajectories is marked, since what is left may not be a fair
sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean, median
from typing import Any

from agentflow_verl.evaluation.questions import GROUPS, group_of
from agentflow_verl.evaluation.statistics import Interval, accuracy, average
from agentflow_verl.evaluation.store import Results
from agentflow_verl.rewards.judge.agreement import agreement
from agentflow_verl.trajectories.log import ScoredTrajectory
from agentflow_verl.trajectories.records import Outcome, Trajectory

Prices = Mapping[str, Sequence[float]]


def summarise(header: Mapping[str, Any], results: Results) -> dict[str, Any]:
    """Everything that a report shows."""
    prices = header.get("prices", {})
    benchmarks = {
        name: _benchmark(name, about, results.of(name), prices)
        for name, about in header["benchmarks"].items()
        if results.of(name)
    }
    everything = [entry for name in header["benchmarks"] for entry in results.of(name)]
    intervals = {name: Interval(**figures["accuracy"]) for name, figures in benchmarks.items()}
    members = {
        group: [name for name in benchmarks if group_of(name) == group]
        for group in (*GROUPS, "own")
    }
    return {
        "header": header,
        "overall": {
            "benchmarks": len(benchmarks),
            "accuracy": asdict(average(list(intervals.values()))) if intervals else None,
            "complete": (
                all(figures["missing"] == 0 for figures in benchmarks.values())
                and len(benchmarks) == len(header["benchmarks"])
            ),
            "faults": results.faults,
            "errors": dict(
                Counter(
                    entry.trajectory.error or "" for entry in results.unscored.values()
                ).most_common(5)
            ),
            **(figures_of(everything, prices) if everything else {}),
        },
        "groups": {
            group: {
                "benchmarks": names,
                "accuracy": asdict(average([intervals[name] for name in names])),
            }
            for group, names in members.items()
            if names
        },
        "benchmarks": benchmarks,
        "overlap": {
            name: _overlap(name, about, everything) for name, about in header["benchmarks"].items()
        },
    }


def _overlap(
    benchmark: str, about: Mapping[str, Any], entries: Sequence[ScoredTrajectory]
) -> dict[str, int]:
    """How many of a benchmark's questions stood in what tools brought back, to whatever question,
    and to their own.
    """
    met = [
        (entry.group, key)
        for entry in entries
        for key in entry.scores.get("leaked", ())
        if key.startswith(f"{benchmark}/")
    ]
    return {
        "questions": len(about["questions"]),
        "too_short": about["too_short"],
        "found": len({key for _, key in met}),
        "found_to_their_own": len({key for asked, key in met if asked == key}),
        "trajectories": len(met),
    }


def by_question(entries: Iterable[ScoredTrajectory]) -> dict[str, float]:
    """The mean reward over trials of each question, by its key."""
    rewards: dict[str, list[float]] = {}
    for entry in entries:
        rewards.setdefault(entry.group, []).append(entry.reward or 0.0)
    return {key: fmean(values) for key, values in rewards.items()}


def _benchmark(
    name: str, about: Mapping[str, Any], entries: Sequence[ScoredTrajectory], prices: Prices
) -> dict[str, Any]:
    trials = sorted({entry.session for entry in entries})
    return {
        "group": group_of(name),
        "questions": len({entry.group for entry in entries}),
        "trials": about["trials"],
        "missing": len(about["questions"]) * about["trials"] - len(entries),
        "accuracy": asdict(accuracy(list(by_question(entries).values()), len(entries))),
        "of_each_trial": [
            fmean(entry.reward or 0.0 for entry in entries if entry.session == trial)
            for trial in trials
        ],
        **{figure: _mean_figure(entries, figure) for figure in ("em", "f1", "lenient")},
        "judge": _judge(entries),
        **figures_of(entries, prices),
    }


def _mean_figure(entries: Sequence[ScoredTrajectory], figure: str) -> float | None:
    """The mean of a figure that only short answers have; None where no entry has it."""
    found = [entry.scores[figure] for entry in entries if entry.scores.get(figure) is not None]
    return fmean(found) if found else None


def _judge(entries: Sequence[ScoredTrajectory]) -> dict[str, Any] | None:
    """How far the judge and the rules agree, and the accuracy by the rules alone; None where no
    judge was asked.
    """
    found = agreement(entries)
    if found is None:
        return None
    return {
        **found.figures(),
        "accuracy_by_rule": fmean(entry.scores.get("rule", entry.reward) for entry in entries),
    }


def figures_of(entries: Sequence[ScoredTrajectory], prices: Prices) -> dict[str, Any]:
    """Turns, tools, outcomes, tokens, time and cost of some trajectories. Tokens, seconds and cost
    are per trajectory.
    """
    trajectories = [entry.trajectory for entry in entries]
    turns = [turn for trajectory in trajectories for turn in trajectory.turns]
    planned = [turn for turn in turns if turn.plan is not None]
    called = [turn for turn in turns if turn.call is not None]
    failed = [turn for turn in planned if turn.result is None or turn.result.is_error]
    seconds = [trajectory.timings.get("total", 0.0) for trajectory in trajectories]
    count = len(entries)
    leaks: Counter[str] = Counter()
    for entry in entries:
        leaks.update(entry.scores.get("leaks", {}))
    return {
        "trajectories": count,
        "outcomes": {
            outcome.value: _share(trajectory.outcome is outcome for trajectory in trajectories)
            for outcome in Outcome
            if outcome.valid
        },
        "turns": len(turns) / count,
        "turns_taken": dict(
            sorted(Counter(len(trajectory.turns) for trajectory in trajectories).items())
        ),
        "tool_calls": len(called) / count,
        "tool_mix": dict(
            Counter(turn.call.tool for turn in called if turn.call is not None).most_common()
        ),
        "tool_error_rate": len(failed) / len(planned) if planned else None,
        "tool_errors": {
            tool: _share(_failed(turn) for turn in called if turn.call.tool == tool)
            for tool in sorted({turn.call.tool for turn in called})
        },
        "plans_without_a_call": _share(turn.call is None for turn in turns) if turns else None,
        "tokens": _tokens(trajectories),
        "seconds": {"mean": fmean(seconds), "median": median(seconds), "longest": max(seconds)},
        "seconds_of_each_part": _parts(trajectories),
        "cost": _cost(trajectories, prices),
        "leaks": dict(leaks),
        "questions_leaked": sorted(
            {key for entry in entries for key in entry.scores.get("leaked", ())}
        ),
    }


def _failed(turn: Any) -> bool:
    return turn.result is None or turn.result.is_error


def _share(flags: Iterable[bool]) -> float:
    return fmean(map(float, flags))


def _tokens(trajectories: Sequence[Trajectory]) -> dict[str, dict[str, float]]:
    """By module: prompt, response and cached tokens of a trajectory, and how many replies the token
    limit cut.
    """
    totals: dict[str, Counter[str]] = {}
    for trajectory in trajectories:
        for reply in trajectory.all_replies():
            for name in (reply.module, "all"):
                counted = totals.setdefault(name, Counter())
                counted.update(
                    calls=1,
                    prompt=reply.prompt_tokens,
                    response=reply.response_tokens,
                    cached=reply.cached_tokens or 0,
                    cut=reply.cut,
                )
    return {
        name: {kind: value / len(trajectories) for kind, value in counted.items()}
        for name, counted in sorted(totals.items())
    }


def _parts(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    parts = sorted(
        {part for trajectory in trajectories for part in trajectory.timings if part != "total"}
    )
    return {
        part: fmean(trajectory.timings.get(part, 0.0) for trajectory in trajectories)
        for part in parts
    }


def _cost(trajectories: Sequence[Trajectory], prices: Prices) -> float | None:
    """Dollars a trajectory; None unless every engine that answered has a price."""
    replies = [reply for trajectory in trajectories for reply in trajectory.all_replies()]
    if not replies or any(reply.engine not in prices for reply in replies):
        return None
    dollars = sum(
        prices[reply.engine][0] * reply.prompt_tokens
        + prices[reply.engine][1] * reply.response_tokens
        for reply in replies
    )
    return dollars / 1e6 / len(trajectories)
