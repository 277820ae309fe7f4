"""A run's report: ``report.json`` (every figure), ``report.md`` and ``report.html`` (one file, no
network needed).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt

from agentflow_verl.evaluation import plots
from agentflow_verl.evaluation.store import Results
from agentflow_verl.evaluation.summary import summarise

NO_VALUE = "–"  # in a table's cell


def write(folder: Path, header: Mapping[str, Any], results: Results) -> dict[str, Any]:
    """Write the three files of a run's report and return its figures."""
    summary = summarise(header, results)
    save(folder, "report", summary, plots.of_run(summary))
    return summary


def save(
    folder: Path,
    name: str,
    content: Mapping[str, Any],
    pictures: Mapping[str, str],
    template: str | None = None,
) -> None:
    """Write ``{name}.json``, ``{name}.md`` from ``template`` (by default the one of that name), and
    ``{name}.html`` with the same text and the pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = templates().get_template(f"{template or name}.md").render(**content)
    page = templates().get_template("page.html").render(body=to_html(text), pictures=pictures)
    (folder / f"{name}.json").write_text(
        json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    (folder / f"{name}.html").write_text(page, encoding="utf-8")


def to_html(markdown: str) -> str:
    """Render Markdown as HTML.

    HTML tags are escaped: reports contain text from tools and servers, which is not trusted.
    """
    rendered: str = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    return rendered


@cache
def templates() -> Environment:
    made = Environment(
        loader=PackageLoader("agentflow_verl.evaluation"),
        autoescape=False,  # Markdown; what becomes HTML is escaped by to_html
        undefined=StrictUndefined,  # a misspelt figure fails instead of leaving a blank
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "percent": percent,
        "change": change,
        "interval": interval,
        "number": number,
        "dollars": dollars,
        "line": line,
    }
    return made


def line(text: str) -> str:
    """Untrusted text on one line of Markdown, with Markdown's special characters escaped."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(text.split()))


def percent(share: float | None) -> str:
    if share is None:
        return NO_VALUE
    return f"{100 * share:.1f}%"


def points(share: float) -> str:
    """A difference of shares, in percentage points with its sign."""
    return f"{100 * share:+.1f}"


def change(found: Mapping[str, float | None]) -> str:
    """``+9.3 [+1.2, +17.4]`` of a difference in points; without the interval where it has none."""
    low, high = found["low"], found["high"]
    mean = points(found["mean"] or 0.0)
    return mean if low is None or high is None else f"{mean} [{points(low)}, {points(high)}]"


def interval(found: Mapping[str, float] | None) -> str:
    """``41.2% [33.0, 49.9]``."""
    if found is None:
        return NO_VALUE
    return f"{percent(found['mean'])} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def number(value: float | None, digits: int = 1) -> str:
    if value is None:
        return NO_VALUE
    return f"{value:,.{digits}f}"


def dollars(value: float | None) -> str:
    if value is None:
        return NO_VALUE
    return f"${value:,.4f}"
