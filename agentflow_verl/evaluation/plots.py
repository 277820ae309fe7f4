"""A report's plots as SVG, drawn by matplotlib. The same figures give the same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

# Without a display; chosen before pyplot is imported, which would pick a backend itself.
matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the reader's font
    "svg.hashsalt": "agentflow",  # element ids are hashes; a random salt would change the bytes
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
BAR_HEIGHT_INCHES = 0.38
COLOURS = ("#2b7a78", "#d98324", "#7a5195", "#b23a48", "#4a6fa5", "#8a8d91", "#5f8d4e", "#c2a83e")


def of_run(summary: Mapping[str, Any]) -> dict[str, str]:
    """The plots of one run, by caption."""
    benchmarks: Mapping[str, Any] = summary["benchmarks"]
    if not benchmarks:
        return {}
    accuracies, outcomes, tools, turns = {}, {}, {}, {}
    for name, figures in benchmarks.items():
        accuracies[name] = figures["accuracy"]
        outcomes[name] = figures["outcomes"]
        tools[name] = shares(figures["tool_mix"])
        turns_taken = shares(figures["turns_taken"])
        turns[name] = {f"{count} turns": share for count, share in turns_taken.items()}
    return {
        "Accuracy with its 95% interval": intervals(accuracies),
        "How trajectories ended": stacked(outcomes),
        "Tools called": stacked(tools),
        "Turns taken": stacked(turns),
    }


def shares(counts: Mapping[Any, float]) -> dict[Any, float]:
    """Each count as a share of their total; empty where nothing was counted."""
    total = sum(counts.values())
    if not total:
        return {}
    return {name: count / total for name, count in counts.items()}


def intervals(rows: Mapping[str, Mapping[str, float | None]], zero: bool = False) -> str:
    """A dot at each row's mean and a bar from its low to its high, where it has them. With
    ``zero`` the rows are differences around 0, otherwise shares between 0 and 1.
    """
    figure, axes = _bars(len(rows))
    for place, row in enumerate(rows.values()):
        mean, low, high = row["mean"], row["low"], row["high"]
        if low is not None and high is not None:
            axes.plot([low, high], [place, place], color=COLOURS[0], linewidth=2)
        if mean is not None:
            axes.plot(mean, place, "o", color=COLOURS[0])
    if zero:
        axes.axvline(0, color="#8a8d91", linewidth=1)
    else:
        axes.set_xlim(0, 1)
    return _svg(figure, axes, list(rows))


def stacked(rows: Mapping[str, Mapping[str, float]]) -> str:
    """One bar per row, divided into the row's shares."""
    # A dictionary as an ordered set: kinds keep the order in which the rows name them.
    kinds: dict[str, None] = {}
    for row in rows.values():
        kinds.update(dict.fromkeys(row))
    figure, axes = _bars(len(rows))
    lefts = [0.0] * len(rows)
    for number, kind in enumerate(kinds):
        widths = [row.get(kind, 0.0) for row in rows.values()]
        axes.barh(
            range(len(rows)),
            widths,
            left=lefts,
            height=0.6,
            label=kind,
            color=COLOURS[number % len(COLOURS)],
        )
        lefts = [left + width for left, width in zip(lefts, widths)]
    axes.set_xlim(0, 1)
    if kinds:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    return _svg(figure, axes, list(rows))


def curves(lines: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str) -> str:
    """One line of (x, y) points per name, with a legend where there are several."""
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
        return plt.subplots(figsize=(7, 0.7 + BAR_HEIGHT_INCHES * rows))


def _svg(figure: Figure, axes: Axes, names: Sequence[str]) -> str:
    axes.set_yticks(range(len(names)), names)
    # From top to bottom, so that the first row of the table is the first bar.
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    return _text(figure)


def _text(figure: Figure) -> str:
    """The figure as an ``<svg>`` element without a size of its own, so that it scales to the page.

    The XML prolog is left out: the element stands inside an HTML page.
    """
    buffer = io.StringIO()
    with plt.rc_context(STYLE):
        figure.savefig(
            buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None}
        )
    plt.close(figure)
    svg = buffer.getvalue()
    return re.sub(r' (?:width|height)="[\d.]+pt"', "", svg[svg.index("<svg") :], count=2)
