"""A report's pictures as SVG, drawn by matplotlib. Text stays text, ids and dates are fixed: same
figures, same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "agentflow",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
HEIGHT_A_BAR = 0.38
COLOURS = ("#2b7a78", "#d98324", "#7a5195", "#b23a48", "#4a6fa5", "#8a8d91", "#5f8d4e", "#c2a83e")


def of_run(summary: Mapping[str, Any]) -> dict[str, str]:
    """The pictures of one run, by caption."""
    benchmarks: Mapping[str, Any] = summary["benchmarks"]
    if not benchmarks:
        return {}
    accuracies = {name: figures["accuracy"] for name, figures in benchmarks.items()}
    outcomes = {name: figures["outcomes"] for name, figures in benchmarks.items()}
    tools = {name: shares(figures["tool_mix"]) for name, figures in benchmarks.items()}
    turns = {
        name: {f"{count} turns": share for count, share in shares(figures["turns_taken"]).items()}
        for name, figures in benchmarks.items()
    }
    return {
        "Accuracy with its 95% interval": intervals(accuracies),
        "How trajectories ended": stacked(outcomes),
        "Tools called": stacked(tools),
        "Turns taken": stacked(turns),
    }


def shares(counts: Mapping[Any, float]) -> dict[Any, float]:
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()} if total else {}


def intervals(rows: Mapping[str, Mapping[str, float]], zero: bool = False) -> str:
    """A dot and a bar for each row's mean, low and high. ``zero``: differences around 0, not
    shares.
    """
    figure, axes = _bars(len(rows))
    for place, row in enumerate(rows.values()):
        axes.plot([row["low"], row["high"]], [place, place], color=COLOURS[0], linewidth=2)
        axes.plot(row["mean"], place, "o", color=COLOURS[0])
    if zero:
        axes.axvline(0, color="#8a8d91", linewidth=1)
    else:
        axes.set_xlim(0, 1)
    return _svg(figure, axes, list(rows))


def stacked(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Shares of each row, as parts of one bar."""
    kinds = list(dict.fromkeys(kind for row in rows.values() for kind in row))
    figure, axes = _bars(len(rows))
    for number, kind in enumerate(kinds):
        widths = [row.get(kind, 0.0) for row in rows.values()]
        lefts = [sum(row.get(before, 0.0) for before in kinds[:number]) for row in rows.values()]
        axes.barh(
            range(len(rows)),
            widths,
            left=lefts,
            height=0.6,
            label=kind,
            color=COLOURS[number % len(COLOURS)],
        )
    axes.set_xlim(0, 1)
    if kinds:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    return _svg(figure, axes, list(rows))


def curves(lines: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str) -> str:
    """Lines of (x, y) points under their names."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7, 3))
        for number, (name, points) in enumerate(lines.items()):
            axes.plot(
                *zip(*points),
                marker="o",
                markersize=3,
                label=name,
                color=COLOURS[number % len(COLOURS)],
            )
        axes.set(xlabel=x, ylabel=y)
        axes.grid(alpha=0.3)
        if len(lines) > 1:
            axes.legend(frameon=False)
        return _text(figure)


def _bars(rows: int) -> tuple[Figure, Axes]:
    with plt.rc_context(STYLE):
        return plt.subplots(figsize=(7, 0.7 + HEIGHT_A_BAR * rows))


def _svg(figure: Figure, axes: Axes, names: Sequence[str]) -> str:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    return _text(figure)


def _text(figure: Figure) -> str:
    """The figure as an ``<svg>`` element without a size of its own, so that it fits its page."""
    buffer = io.StringIO()
    with plt.rc_context(STYLE):
        figure.savefig(
            buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None}
        )
    plt.close(figure)
    svg = buffer.getvalue()
    return re.sub(r' (?:width|height)="[\d.]+pt"', "", svg[svg.index("<svg") :], count=2)
