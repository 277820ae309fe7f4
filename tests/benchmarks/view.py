"""How soon a page of many trajectories can be used: ``python -m tests.benchmarks.view [RUN_DIR]
[--count 10000]``.

Trajectories are those of a run (the recorded quickstart if none is named), repeated under new names
until there are enough. Reported are the page's size, what writing it took, and, as medians in
headless Chromium, seconds from navigation to the first paint, to the charts, to a filtered list, to
a group and to a full-text search. Exits with 1 where the first paint takes two seconds or more.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path

from agentflow_verl.cli.view import write
from tests.view.browser import Page, chromium
from tests.view.logs import RUN

logger = logging.getLogger("view")
FIRST_PAINT_S = 2.0


def repeated(run: Path, folder: Path, count: int) -> None:
    """A log of ``count`` trajectories under ``folder``: the run's, with new group names and later
    steps each time.
    """
    lines = [
        json.loads(line)
        for path in sorted(run.glob("trajectories/*/*/*.jsonl"))
        for line in path.open(encoding="utf-8")
    ]
    steps = max(line["step"] for line in lines) + 1
    for number in range(count):
        round_, place = divmod(number, len(lines))
        line = lines[place]
        made = line | {"step": line["step"] + round_ * steps, "group": f"{line['group']}-{round_}"}
        path = folder / "trajectories" / line["split"] / f"step_{made['step']:06d}" / "worker.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(made) + "\n")


def measure(page: Page, file: Path) -> dict[str, float]:
    """Seconds of one visit."""
    page.open(file)
    page.wait(lambda: page.all(".chart canvas"))
    charts = page.driver.execute_script("return performance.now() / 1000")
    paints = page.driver.execute_script(
        "return performance.getEntriesByType('paint').map((entry) => [entry.name, entry.startTime /"
        " 1000])"
    )
    seconds = {"first paint": dict(paints)["first-contentful-paint"], "charts": charts}
    seconds["list, filtered"] = timed(page, "#/list?outcome=out_of_turns&split=train", "[data-row]")
    seconds["group"] = timed(
        page,
        page.driver.execute_script("return document.querySelector('td:last-child a').hash"),
        ".columns",
    )
    seconds["full text of a step"] = timed(
        page, "#/list?deep=1&text=verdict&from=1&to=1&split=train", "[data-row]"
    )
    return seconds


def timed(page: Page, fragment: str, shown: str) -> float:
    """Seconds from an address to what it shows."""
    began = time.monotonic()
    page.go(fragment)
    page.wait(lambda: page.all(shown))
    return time.monotonic() - began


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("run", type=Path, nargs="?", default=RUN)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--visits", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a tenth of the trajectories")
    given = parser.parse_args()
    if given.quick:
        given.count, given.visits = given.count // 10, 2
    with tempfile.TemporaryDirectory() as folder:
        repeated(given.run, Path(folder), given.count)
        file = Path(folder) / "view.html"
        began = time.monotonic()
        count = write([Path(folder)], None, file)
        logger.info(
            "%d trajectories: %.1f MB, written in %.1f s",
            count,
            file.stat().st_size / 1e6,
            time.monotonic() - began,
        )
        with chromium() as driver:
            visits = [measure(Page(driver), file) for _ in range(given.visits)]
    medians = {name: statistics.median(visit[name] for visit in visits) for name in visits[0]}
    for name, seconds in medians.items():
        logger.info("%-20s %.2f s", name, seconds)
    return 0 if medians["first paint"] < FIRST_PAINT_S else 1


if __name__ == "__main__":
    sys.exit(main())
