"""Two runs on the same questions: paired differences with significance, ``agentflow eval --compare
A B``.

Only questions that both runs have scored are compared; a question's score is its mean over trials.
Differences are B minus A. Settings in which the runs differ are listed, so that the effect of
another turn limit, say, is not mistaken for an effect of the model.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.evaluation import plots
from agentflow_verl.evaluation.report import save
from agentflow_verl.evaluation.settings import comparable
from agentflow_verl.evaluation.statistics import difference, holm
from agentflow_verl.evaluation.store import Results, open_run
from agentflow_verl.evaluation.summary import by_group, by_question, summarise

SHOWN = ("turns", "tool_calls", "tool_error_rate")


def write(first: Path, second: Path, folder: Path) -> dict[str, Any]:
    """Compare two runs' folders, write ``compare.json``, ``compare.md`` and ``compare.html``, and
    return their content.
    """
    found = compare(open_run(first), open_run(second), (str(first), str(second)))
    rows = {**found["benchmarks"], **found["groups"], "all": found["overall"]}
    differences = {name: row["difference"] for name, row in rows.items()}
    picture = plots.intervals(differences, zero=True)
    save(folder, "compare", found, {"Difference B − A with its 95% interval": picture})
    return found


def compare(
    first: tuple[dict[str, Any], Results],
    second: tuple[dict[str, Any], Results],
    names: tuple[str, str],
) -> dict[str, Any]:
    """Paired differences per benchmark, per group and overall. Raises ConfigError where the runs
    share no question.
    """
    (header_a, results_a), (header_b, results_b) = first, second
    shared = _shared_benchmarks(header_a, header_b)
    figures_a = summarise(header_a, results_a)["benchmarks"]
    figures_b = summarise(header_b, results_b)["benchmarks"]
    strata: dict[str, list[float]] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name in shared:
        scores_a, scores_b = by_question(results_a.of(name)), by_question(results_b.of(name))
        both = [key for key in scores_a if key in scores_b]
        if not both:
            continue
        a = [scores_a[key] for key in both]
        b = [scores_b[key] for key in both]
        strata[name] = list(map(operator.sub, b, a))
        rows[name] = {
            "questions": len(both),
            "left_out": len(scores_a.keys() ^ scores_b.keys()),
            "a": fmean(a),
            "b": fmean(b),
            "only_a": sum(map(operator.gt, a, b)),
            "only_b": sum(map(operator.gt, b, a)),
            "difference": asdict(difference([strata[name]])),
            **_shown(figures_a[name], figures_b[name]),
        }
    if not strata:
        raise ConfigError(f"{names[0]} and {names[1]} share no scored question")
    _adjust(rows.values())
    settings = {}
    for where, value_a, value_b in differing(_settings(header_a), _settings(header_b)):
        settings[where] = [value_a, value_b]
    return {
        "a": names[0],
        "b": names[1],
        "settings_that_differ": settings,
        "benchmarks": rows,
        "groups": _groups(rows, strata),
        "overall": _joint(list(rows.values()), list(strata.values())),
    }


def _shared_benchmarks(header_a: Mapping[str, Any], header_b: Mapping[str, Any]) -> list[str]:
    """The benchmarks of both runs. Raises ConfigError where they read different files for one."""
    shared = []
    for name, about in header_a["benchmarks"].items():
        other = header_b["benchmarks"].get(name)
        if other is None:
            continue
        if about["sha256"] != other["sha256"]:
            raise ConfigError(
                f"{name}: the two runs read different files; compare runs on the same questions"
            )
        shared.append(name)
    return shared


def _shown(figures_a: Mapping[str, Any], figures_b: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that are listed beside the scores, as ``turns_a``, ``turns_b`` and so on."""
    shown = {}
    for figure in SHOWN:
        shown[f"{figure}_a"] = figures_a[figure]
        shown[f"{figure}_b"] = figures_b[figure]
    return shown


def _adjust(rows: Collection[dict[str, Any]]) -> None:
    """Add to each benchmark its p-value adjusted for testing all benchmarks at once."""
    p_values = [row["difference"]["p"] for row in rows]
    for row, adjusted in zip(rows, holm(p_values)):
        row["p_adjusted"] = adjusted


def _groups(
    rows: Mapping[str, Mapping[str, Any]], strata: Mapping[str, list[float]]
) -> dict[str, dict[str, Any]]:
    groups = {}
    for group, members in by_group(rows).items():
        groups[group] = _joint(list(members.values()), [strata[name] for name in members])
    return groups


def differing(a: Any, b: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield each leaf in which two headers differ: its dotted path and the two values."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys((*a, *b)):
            yield from differing(a.get(key), b.get(key), f"{where}.{key}".removeprefix("."))
    elif a != b:
        yield where, a, b


def _joint(rows: list[Mapping[str, Any]], strata: list[list[float]]) -> dict[str, Any]:
    """Scores and their difference over several benchmarks, each weighed equally."""
    return {
        "questions": sum(row["questions"] for row in rows),
        "a": fmean(row["a"] for row in rows),
        "b": fmean(row["b"] for row in rows),
        "difference": asdict(difference(strata)),
    }


def _settings(header: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "settings": comparable(header["settings"]),
        "engines": header["engines"],
        # By name, so that two runs with the same tools in another order do not differ.
        "tools": {tool["name"]: tool for tool in header["tools"]},
        "versions": header["versions"],
    }
