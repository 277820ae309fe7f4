"""The figures of a run, computed from its header and log alone, so that a report can be rebuilt at
any time.

Accuracy is taken over scored trajectories. A trajectory that ended in a fault has no score: it
counts as missing, and a benchmark with missing trajectories is marked as incomplete, since the
remaining ones may not be a fair sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean, median
from typing import Any, TypeVar

from agentflow_verl.evaluation.questions import GROUPS, group_of
from agentflow_verl.evaluation.statistics import Interval, accuracy, average
from agentflow_verl.evaluation.store import Results
from agentflow_verl.rewards.judge.agreement import agreement
from agentflow_verl.trajectories.log import ScoredTrajectory
from agentflow_verl.trajectories.records import Outcome, Trajectory, Turn

Prices = Mapping[str, Sequence[float]]
Row = TypeVar("Row")


def summarise(header: Mapping[str, Any], results: Results) -> dict[str, Any]:
    """Return everything that a report shows, ready for JSON."""
    prices = header.get("prices", {})
    benchmarks: dict[str, dict[str, Any]] = {}
    everything: list[ScoredTrajectory] = []
    for name, about in header["benchmarks"].items():
        entries = results.of(name)
        if entries:
            benchmarks[name] = _benchmark(name, about, entries, prices)
            everything.extend(entries)
    overlap = {}
    for name, about in header["benchmarks"].items():
        overlap[name] = _overlap(name, about, everything)
    return {
        "header": header,
        "overall": _overall(header, results, benchmarks, everything),
        "groups": _groups(benchmarks),
        "benchmarks": benchmarks,
        "overlap": overlap,
    }


def _overall(
    header: Mapping[str, Any],
    results: Results,
    benchmarks: Mapping[str, Mapping[str, Any]],
    everything: Sequence[ScoredTrajectory],
) -> dict[str, Any]:
    """The figures over all benchmarks; accuracy weighs each benchmark equally."""
    none_missing = all(figures["missing"] == 0 for figures in benchmarks.values())
    errors = Counter(entry.trajectory.error or "" for entry in results.unscored.values())
    overall: dict[str, Any] = {
        "benchmarks": len(benchmarks),
        "accuracy": None,
        # A benchmark without any result has no figures, so count the benchmarks as well.
        "complete": none_missing and len(benchmarks) == len(header["benchmarks"]),
        "faults": results.faults,
        "errors": dict(errors.most_common(5)),
    }
    if benchmarks:
        overall["accuracy"] = _average_accuracy(benchmarks.values())
        overall.update(figures_of(everything, header.get("prices", {})))
    return overall


def _groups(benchmarks: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The accuracy of each capability group that has results, in the order of ``GROUPS``."""
    groups: dict[str, dict[str, Any]] = {}
    for group, members in by_group(benchmarks).items():
        groups[group] = {
            "benchmarks": list(members),
            "accuracy": _average_accuracy(members.values()),
        }
    return groups


def by_group(rows: Mapping[str, Row]) -> dict[str, dict[str, Row]]:
    """What belongs to each benchmark, by capability group in the order of ``GROUPS``; groups
    without a benchmark are left out.
    """
    grouped: dict[str, dict[str, Row]] = {group: {} for group in (*GROUPS, "own")}
    for name, row in rows.items():
        grouped[group_of(name)][name] = row
    return {group: members for group, members in grouped.items() if members}


def _average_accuracy(benchmarks: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    intervals = [Interval(**figures["accuracy"]) for figures in benchmarks]
    return asdict(average(intervals))


def _overlap(
    benchmark: str, about: Mapping[str, Any], entries: Sequence[ScoredTrajectory]
) -> dict[str, int]:
    """How many of a benchmark's questions appeared in tool results: of any trajectory, and of the
    question's own trajectories.
    """
    found: set[str] = set()
    found_to_their_own: set[str] = set()
    trajectories = 0
    for entry in entries:
        for key in entry.scores.get("leaked", ()):
            if not key.startswith(f"{benchmark}/"):
                continue
            trajectories += 1
            found.add(key)
            if key == entry.group:
                found_to_their_own.add(key)
    return {
        "questions": len(about["questions"]),
        "too_short": about["too_short"],
        "found": len(found),
        "found_to_their_own": len(found_to_their_own),
        "trajectories": trajectories,
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
    rewards = by_question(entries)
    return {
        "group": group_of(name),
        "questions": len(rewards),
        "trials": about["trials"],
        "missing": len(about["questions"]) * about["trials"] - len(entries),
        "accuracy": asdict(accuracy(list(rewards.values()), len(entries))),
        "of_each_trial": _accuracy_per_trial(entries),
        "em": _mean_score(entries, "em"),
        "f1": _mean_score(entries, "f1"),
        "lenient": _mean_score(entries, "lenient"),
        "judge": _judge(entries),
        **figures_of(entries, prices),
    }


def _accuracy_per_trial(entries: Sequence[ScoredTrajectory]) -> list[float]:
    """The mean reward of each trial, in the order of the trials' numbers."""
    rewards: dict[int, list[float]] = {}
    for entry in entries:
        rewards.setdefault(entry.session, []).append(entry.reward or 0.0)
    return [fmean(values) for _, values in sorted(rewards.items())]


def _mean_score(entries: Sequence[ScoredTrajectory], score: str) -> float | None:
    """The mean of a score that only short answers have; None where no entry has it."""
    values = []
    for entry in entries:
        value = entry.scores.get(score)
        if value is not None:
            values.append(value)
    if not values:
        return None
    return fmean(values)


def _judge(entries: Sequence[ScoredTrajectory]) -> dict[str, Any] | None:
    """How far the judge and the rules agree, and the accuracy by the rules alone; None where no
    judge was asked.
    """
    found = agreement(entries)
    if found is None:
        return None
    # An entry without the rule's own score was scored by the rule alone.
    by_rule = [entry.scores.get("rule", entry.reward or 0.0) for entry in entries]
    return {**found.figures(), "accuracy_by_rule": fmean(by_rule)}


def figures_of(entries: Sequence[ScoredTrajectory], prices: Prices) -> dict[str, Any]:
    """Turns, tools, outcomes, tokens, time and cost of some trajectories. Tokens, seconds and cost
    are per trajectory.
    """
    trajectories = [entry.trajectory for entry in entries]
    seconds = [trajectory.timings.get("total", 0.0) for trajectory in trajectories]
    turns_taken = Counter(len(trajectory.turns) for trajectory in trajectories)
    leaks: Counter[str] = Counter()
    leaked: set[str] = set()
    for entry in entries:
        leaks.update(entry.scores.get("leaks", {}))
        leaked.update(entry.scores.get("leaked", ()))
    return {
        "trajectories": len(entries),
        "outcomes": _outcomes(trajectories),
        "turns": fmean(turns_taken.elements()),
        "turns_taken": dict(sorted(turns_taken.items())),
        **_tool_figures(trajectories),
        "tokens": _tokens(trajectories),
        "seconds": {"mean": fmean(seconds), "median": median(seconds), "longest": max(seconds)},
        "seconds_of_each_part": _seconds_per_part(trajectories),
        "cost": _cost(trajectories, prices),
        "leaks": dict(leaks),
        "questions_leaked": sorted(leaked),
    }


def _outcomes(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """The share of trajectories with each valid outcome, those that never occurred included."""
    counts = Counter(trajectory.outcome for trajectory in trajectories)
    shares = {}
    for outcome in Outcome:
        if outcome.valid:
            shares[outcome.value] = counts[outcome] / len(trajectories)
    return shares


def _tool_figures(trajectories: Sequence[Trajectory]) -> dict[str, Any]:
    """How often which tools were called, and how often that failed.

    ``tool_error_rate`` is over planned turns: a plan from which no call could be made has failed
    as well. ``tool_errors`` is per tool, so only over calls that were made.
    """
    turns = planned = failed = 0
    calls: Counter[str] = Counter()
    failed_calls: Counter[str] = Counter()
    for trajectory in trajectories:
        turns += len(trajectory.turns)
        for turn in trajectory.turns:
            if turn.plan is not None:
                planned += 1
                failed += _failed(turn)
            if turn.call is not None:
                calls[turn.call.tool] += 1
                failed_calls[turn.call.tool] += _failed(turn)
    called = calls.total()
    return {
        "tool_calls": called / len(trajectories),
        "tool_mix": dict(calls.most_common()),
        "tool_error_rate": _share(failed, planned),
        "tool_errors": {tool: failed_calls[tool] / calls[tool] for tool in sorted(calls)},
        "plans_without_a_call": _share(turns - called, turns),
    }


def _share(part: int, whole: int) -> float | None:
    """``part / whole``; None where there is nothing to take a share of."""
    if not whole:
        return None
    return part / whole


def _failed(turn: Turn) -> bool:
    return turn.result is None or turn.result.is_error


def _tokens(trajectories: Sequence[Trajectory]) -> dict[str, dict[str, float]]:
    """By module: prompt, response and cached tokens per trajectory, and how many replies were
    truncated by the token limit.
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
    means = {}
    for name, counted in sorted(totals.items()):
        means[name] = {kind: value / len(trajectories) for kind, value in counted.items()}
    return means


def _seconds_per_part(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Mean seconds per trajectory spent in each part of the flow; 0 where a part did not run."""
    parts: set[str] = set()
    for trajectory in trajectories:
        parts.update(trajectory.timings)
    parts.discard("total")
    means = {}
    for part in sorted(parts):
        means[part] = fmean(trajectory.timings.get(part, 0.0) for trajectory in trajectories)
    return means


def _cost(trajectories: Sequence[Trajectory], prices: Prices) -> float | None:
    """Dollars per trajectory; None unless every engine that replied has a price."""
    dollars, replies = 0.0, 0
    for trajectory in trajectories:
        for reply in trajectory.all_replies():
            if reply.engine not in prices:
                return None
            per_prompt_token, per_response_token = prices[reply.engine]
            dollars += (
                per_prompt_token * reply.prompt_tokens + per_response_token * reply.response_tokens
            )
            replies += 1
    if not replies:
        return None
    # Prices are per million tokens.
    return dollars / 1e6 / len(trajectories)
