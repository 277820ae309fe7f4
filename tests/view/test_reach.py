"""Everything can be reached without a mouse and read in dark and light; a run is followed."""

from __future__ import annotations

import threading

import pytest

from agentflow_verl.cli import view as command
from agentflow_verl.view import serve
from tests.view.browser import Page, needs_chromium
from tests.view.logs import scored, trajectory, write

pytestmark = needs_chromium

ENTER, TAB, RIGHT, ESCAPE = "\ue007", "\ue004", "\ue014", "\ue00c"
READABLE = 4.5  # contrast of text, WCAG 2.2 level AA


def focused(page):
    return page.driver.switch_to.active_element


def test_keys_lead_from_the_run_to_a_trajectory_and_along_its_group(page):
    page.press("2")
    page.wait(lambda: page.text("h1") == "Trajectories")
    page.press("j", "j", "k", "j")
    second = page.all("[data-row]")[1].get_attribute("data-key")
    page.press(ENTER)
    page.wait(lambda: page.all(".timeline"))
    assert page.texts(".trail > *")[-1] == f"trajectory {second.rsplit('/')[-1]}"
    page.press("[")
    page.wait(lambda: page.texts(".trail > *")[-1] == "trajectory 0")
    page.press("]", "3")
    page.wait(lambda: page.text("h1") == "Compare")


def test_slash_searches_from_anywhere(page):
    page.press("/")
    page.wait(lambda: focused(page).get_attribute("id") == "search")
    page.press(*"1/3")
    assert focused(page).get_attribute("value") == "1/3"


def test_arrow_keys_read_a_chart_and_enter_opens_the_step(page):
    page.wait(lambda: page.all('[data-chart="Outcomes"] canvas'))
    canvas = page.all('[data-chart="Outcomes"] .canvas')[0]
    page.driver.execute_script("arguments[0].focus()", canvas)
    page.press(RIGHT)
    page.wait(lambda: "step 1" in page.text('[data-chart="Outcomes"] .legend'))
    page.press(RIGHT)
    page.wait(lambda: "step 24" in page.text('[data-chart="Outcomes"] .legend'))
    page.press(ENTER)
    page.wait(lambda: page.text("h1") == "Trajectories")
    page.wait(
        lambda: {(row[0], row[1]) for row in page.table(".results table")} == {("24", "train")}
    )


def test_arrow_keys_read_tokens(page):
    page.go("#/list?run=0")
    page.all("[data-row] a")[0].click()
    page.wait(lambda: page.all(".token"))
    first = page.all(".token")[0]
    page.driver.execute_script("arguments[0].focus()", first)
    page.press(RIGHT)
    assert focused(page).get_attribute("data-at") == "1"
    assert "token 2" in page.text(".readout")


def test_help_lists_the_keys_and_closes(page):
    page.press("?")
    page.wait(lambda: page.all("dialog[open]"))
    page.press(ESCAPE)
    page.wait(lambda: not page.all("dialog[open]"))


@pytest.mark.parametrize("fragment", ["#/run/0", "#/list", "#/compare"])
def test_every_control_takes_the_focus_and_shows_it(page, fragment):
    page.go(fragment)
    wanted = page.driver.execute_script(
        "return document.querySelectorAll('a[href], button:not(:disabled), input, select, summary,"
        ' [tabindex="0"]\').length'
    )
    page.driver.execute_script("document.activeElement.blur(); window.reached = new Set()")
    for _ in range(min(wanted, 40)):
        page.press(TAB)
        shown = page.driver.execute_script(
            "const at = document.activeElement; window.reached.add(at); return at === document.body"
            " || getComputedStyle(at).outlineStyle !== 'none'"
        )
        assert shown
    assert page.driver.execute_script("return window.reached.size") >= min(wanted, 40) - 1


@pytest.mark.parametrize("fragment", ["#/run/0", "#/list", "#/compare"])
def test_a_narrow_screen_is_enough(page, fragment):
    page.resize(360)
    try:
        page.go(fragment)
        page.wait(lambda: page.all("main > *"))
        assert page.overhang() == []
    finally:
        page.resize(None)


def luminance(colour):
    channels = [value / 255 for value in colour]
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in channels
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def colour(page, name):
    text = page.driver.execute_script(
        "return getComputedStyle(document.documentElement).getPropertyValue(arguments[0]).trim()",
        name,
    )
    return [int(text[place : place + 2], 16) for place in (1, 3, 5)]


@pytest.mark.parametrize("system", ["light", "dark"])
def test_text_is_readable_in_the_theme_of_the_system_and_in_the_other(page, system):
    page.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": system}]},
    )
    page.driver.execute_script(
        "delete document.documentElement.dataset.theme; localStorage.clear()"
    )
    grounds = []
    for _ in range(2):
        for ground in ("--ground", "--panel", "--sunk"):
            for ink in ("--text", "--muted", "--accent", "--bad"):
                assert contrast(colour(page, ink), colour(page, ground)) >= READABLE, (ink, ground)
        grounds.append(luminance(colour(page, "--ground")))
        page.press("t")
    assert (grounds[0] > grounds[1]) == (system == "light")
    page.driver.execute_script("localStorage.clear()")


def test_a_live_run_is_followed_without_losing_the_place(driver, tmp_path, monkeypatch):
    monkeypatch.setattr(serve, "EVERY_S", 0.0)
    server = command.serve([tmp_path], None, 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        page = Page(driver)
        page.open(f"http://127.0.0.1:{server.server_port}/")
        assert "No trajectories yet" in page.text("main")
        write(tmp_path, scored(trajectory()), scored(trajectory(), session=1, reward=0.0))
        page.wait(lambda: page.all(".key-figures") and "Trajectories2" in page.text(".key-figures"))
        page.go("#/list", "Trajectories")
        page.wait(lambda: len(page.all("[data-row]")) == 2)
        page.all("[data-row] a")[0].click()
        page.wait(lambda: page.all(".timeline"))
        write(tmp_path, scored(trajectory(), step=2, group="h"))
        page.wait(lambda: "3 trajectories" in page.text(".bar"))
        assert page.all(".timeline"), "a trajectory that is read stays"
        page.press("2")
        page.wait(lambda: len(page.all("[data-row]")) == 3)
        assert page.complaints() == []
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
