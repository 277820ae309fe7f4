"""Two runs on the same questions: paired differences with significance, ``agentflow eval --compare
A B``.

Only questions that both runs have scored are compared; a question's score is its mean over trials.
Differences are B minus A. Settings in which the runs differ are listed, so that nobody takes a
difference of turns for one of models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.evaluation import plots
from agentflow_verl.evaluation.questions import GROUPS, group_of
from agentflow_verl.evaluation.report import save
from agentflow_verl.evaluation.statistics import difference, holm
from agentflow_verl.evaluation.store import Results, open_run
from agentflow_verl.evaluation.summary import by_question, summarise

SHOWN = ("turns", "tool_calls", "tool_error_rate")


def write(first: Path, second: Path, folder: Path) -> dict[str, Any]:
    """Compare two runs' folders and write ``compare.json``, ``compare.md`` and ``compare.html``;
    what they hold.
    """
    found = compare(open_run(first), open_run(second), (str(first), str(second)))
    rows = {**found["benchmarks"], **found["groups"], "all": found["overall"]}
    picture = plots.intervals({name: row["difference"] for name, row in rows.items()}, zero=True)
    save(folder, "compare", found, {"Difference B − A with its 95% interval": picture})
    return found


def compare(
    first: tuple[dict[str, Any], Results],
    second: tuple[dict[str, Any], Results],
    names: tuple[str, str],
) -> dict[str, Any]:
    """Paired differences by benchmark, group and over all. Raises ConfigError where the runs share
    no question.
    """
    (header_a, results_a), (header_b, results_b) = first, second
    shared = [name for name in header_a["benchmarks"] if name in header_b["benchmarks"]]
    changed = [
        name
        for name in shared
        if header_a["benchmarks"][name]["sha256"] != header_b["benchmarks"][name]["sha256"]
    ]
    if changed:
        raise ConfigError(
            f"{changed[0]}: the two runs read different files; compare runs on the same questions"
        )
    strata, rows = {}, {}
    figures_a, figures_b = (
        summarise(header_a, results_a)["benchmarks"],
        summarise(header_b, results_b)["benchmarks"],
    )
    for name in shared:
        scores_a, scores_b = by_question(results_a.of(name)), by_question(results_b.of(name))
        both = [key for key in scores_a if key in scores_b]
        if not both:
            continue
        strata[name] = [scores_b[key] - scores_a[key] for key in both]
        rows[name] = {
            "questions": len(both),
            "left_out": len(scores_a.keys() ^ scores_b.keys()),
            "a": fmean(scores_a[key] for key in both),
            "b": fmean(scores_b[key] for key in both),
            "only_a": sum(scores_a[key] > scores_b[key] for key in both),
            "only_b": sum(scores_b[key] > scores_a[key] for key in both),
            "difference": asdict(difference([strata[name]])),
            **{
                f"{kind}_{run}": figures[name][kind]
                for kind in SHOWN
                for run, figures in (("a", figures_a), ("b", figures_b))
            },
        }
    if not strata:
        raise ConfigError(f"{names[0]} and {names[1]} share no scored question")
    for row, adjusted in zip(
        rows.values(), holm([row["difference"]["p"] for row in rows.values()])
    ):
        row["p_adjusted"] = adjusted
    members = {
        group: [name for name in strata if group_of(name) == group] for group in (*GROUPS, "own")
    }
    return {
        "a": names[0],
        "b": names[1],
        "settings_that_differ": {
            where: [a, b] for where, a, b in differing(_settings(header_a), _settings(header_b))
        },
        "benchmarks": rows,
        "groups": {
            group: _joint([rows[name] for name in part], [strata[name] for name in part])
            for group, part in members.items()
            if part
        },
        "overall": _joint(list(rows.values()), list(strata.values())),
    }


def differing(a: Any, b: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The leaves in which two headers differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys((*a, *b)):
            yield from differing(a.get(key), b.get(key), f"{where}.{key}" if where else key)
    elif a != b:
        yield where, a, b


def _joint(rows: list[Mapping[str, Any]], strata: list[list[float]]) -> dict[str, Any]:
    """Over several benchmarks, each weighing alike."""
    return {
        "questions": sum(row["questions"] for row in rows),
        "a": fmean(row["a"] for row in rows),
        "b": fmean(row["b"] for row in rows),
        "difference": asdict(difference(strata)),
    }


def _settings(header: Mapping[str, Any]) -> dict[str, Any]:
    tools = {tool["name"]: tool for tool in header["tools"]}
    return {
        "settings": header["settings"],
        "engines": header["engines"],
        "tools": tools,
        "versions": header["versions"],
    }
