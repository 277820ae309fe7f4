"""Headless Chromium for the viewer's pages, and how long a test waits for it."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
)
PATIENCE_S = 60.0

needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER and importlib.util.find_spec("selenium")),
    reason="needs selenium, and chromium and chromedriver on the PATH",
)


@contextmanager
def chromium(width: int = 1360, height: int = 900) -> Iterator[Any]:
    """A driver with a profile of its own, and its console kept."""
    from selenium import webdriver

    with tempfile.TemporaryDirectory(prefix="agentflow-chromium-") as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
        driver.set_script_timeout(PATIENCE_S)
        try:
            yield driver
        finally:
            driver.quit()


class Page:
    """A page of the viewer, as a person meets it: addresses, text, keys."""

    def __init__(self, driver: Any):
        self.driver = driver

    def open(self, where: Path | str, fragment: str = "") -> None:
        """Load a file or a URL, afresh."""
        self.driver.get("about:blank")
        self.driver.get((where.as_uri() if isinstance(where, Path) else where) + fragment)
        self.wait(lambda: self.all("h1"))

    def go(self, fragment: str, heading: str | None = None) -> None:
        """To another page of the same file; until ``heading`` is shown."""
        self.driver.execute_script(
            "document.querySelector('h1').remove(); location.hash = arguments[0]", fragment
        )
        self.wait(lambda: self.all("h1") and (heading is None or heading in self.text("h1")))

    def wait(self, happened: Callable[[], Any]) -> Any:
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        ignored = (StaleElementReferenceException, IndexError)
        return WebDriverWait(self.driver, PATIENCE_S, 0.05, ignored_exceptions=ignored).until(
            lambda _: happened()
        )

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        """What elements hold, whether or not it is in view."""
        return self.driver.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map((node) => node.textContent)",
            selector,
        )

    def text(self, selector: str) -> str:
        return self.texts(selector)[0]

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def table(self, selector: str) -> list[list[str]]:
        """The cells of a table's body."""
        return self.driver.execute_script(
            "return [...document.querySelector(arguments[0]).tBodies[0].rows].map((row) =>"
            " [...row.cells].map((cell) => cell.textContent))",
            selector,
        )

    def resize(self, width: int | None) -> None:
        """The width of the screen in CSS pixels; None is the window's."""
        if width is None:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            return
        screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        assert self.driver.execute_script("return innerWidth") == width

    def overhang(self) -> list[str]:
        """What makes the page wider than the screen; empty where nothing does."""
        return self.driver.execute_script(
            "const wide = document.scrollingElement.clientWidth;"
            "if (document.scrollingElement.scrollWidth <= wide) return [];"
            "return [...document.querySelectorAll('body *')]"
            ".filter((node) => node.getBoundingClientRect().right > wide + 0.5)"
            ".slice(0, 5).map((node) => node.outerHTML.slice(0, 120))"
        )

    def complaints(self) -> list[str]:
        """Errors of the console: a broken script, or something that the page's policy stopped."""
        return [
            line["message"] for line in self.driver.get_log("browser") if line["level"] == "SEVERE"
        ]
