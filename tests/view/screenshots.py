"""The pictures of docs/viewer.md: ``python -m tests.view.screenshots RUN_DIR [OTHER_RUN_DIR] --out
docs/viewer``.

Shown are the last step's first group whose rewards differ, and its best trajectory. Colours are
reduced to 256.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from agentflow_verl.cli.view import write
from tests.view.browser import Page, chromium

WIDTH = 1360


def take(page: Page, path: Path, height: int) -> None:
    page.driver.set_window_size(WIDTH, height)
    # two frames: one to lay out, one to paint
    page.driver.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() =>"
        " setTimeout(done, 300)))"
    )
    picture = Image.open(io.BytesIO(page.driver.get_screenshot_as_png())).convert("RGB")
    picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        path, optimize=True
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium(WIDTH, 900) as driver:
        file = Path(folder) / "view.html"
        write(given.runs, None, file)
        page = Page(driver)
        page.open(file)
        take(page, given.out / "run.png", 1180)
        page.go("#/list?run=0&split=train&sort=-step", "Trajectories")
        page.wait(lambda: page.all("[data-row]"))
        take(page, given.out / "list.png", 860)
        best = next(link for row, link in rows(page) if row[6].startswith("+") and row[7] != "1")
        page.go(best)
        page.wait(lambda: page.all(".timeline"))
        take(page, given.out / "trajectory.png", 1420)
        page.all(".trail a")[2].click()
        page.wait(lambda: page.all(".columns"))
        page.press("t")
        page.wait(lambda: page.all(".columns"))
        take(page, given.out / "group.png", 900)
        page.go("#/compare", "Compare")
        take(page, given.out / "compare.png", 760)
    return 0


def rows(page: Page) -> list[tuple[list[str], str]]:
    """The cells of each row of the list, and where it leads."""
    links = page.driver.execute_script(
        "return [...document.querySelectorAll('[data-row]')].map((row) =>"
        " row.querySelector('a').hash)"
    )
    return list(zip(page.table(".results table"), links))


if __name__ == "__main__":
    sys.exit(main())
