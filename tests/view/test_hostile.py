"""What models, pages and tools write is shown as it is and never becomes markup or script."""

from __future__ import annotations

import pytest

from agentflow_verl.cli.view import write as write_page
from agentflow_verl.config.limits import Limits
from agentflow_verl.core.errors import InfraError
from agentflow_verl.flow.modules import MODULES
from agentflow_verl.tools.types import ToolResult, ToolSpec
from agentflow_verl.trajectories.manifest import Setup
from tests.flow.fakes import PYTHON, SEARCH, ScriptedTools
from tests.view.browser import Page, needs_chromium
from tests.view.logs import scored, trajectory, write

pytestmark = needs_chromium

ATTACK = (
    "<img src=x onerror=window.hacked=1><script>window.hacked=1</script></script><!-- ]]>"
    " ${window.hacked=1} \"'>&lt;b&gt; \u2028\u202e"
)
LINK = "javascript:window.hacked=1"
PLAN = f"Justification: {ATTACK}\nContext: {ATTACK}\nSub-goal: {ATTACK}\nTool: python_coder"


@pytest.fixture(scope="module")
def page(driver, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    tool = ToolSpec(name=f"{ATTACK}", description=ATTACK, parameters={"type": "object"})

    class Tools(ScriptedTools):
        def resolve(self, name):
            return tool

    made = trajectory(
        f"{ATTACK} {LINK}",
        tools=Tools(ToolResult(tool=tool.name, text=ATTACK), specs=[tool]),
        analyst=ATTACK,
        planner=PLAN,
        executor='{"' + ATTACK.replace('"', '\\"') + '": "' + ATTACK.replace('"', '\\"') + '"}',
        verifier=f"Analysis: {ATTACK}\nConclusion: STOP",
        generator=f"<answer>{ATTACK}</answer>",
    )
    fault = trajectory(ATTACK, planner=[InfraError(ATTACK)])
    fields = {
        "group": f"../{ATTACK}#?&/",
        "data_source": ATTACK,
        "ground_truth": ATTACK,
        "scores": {ATTACK: ATTACK},
    }
    run = write(
        folder / "run<b>",
        scored(made, **fields),
        scored(fault, **fields, session=1, reward=None),
        scored(made, step=2, split="val", **fields),
    )
    Setup(limits=Limits(), tools=(tool,)).save(run / "trajectories")
    (run / "metrics.jsonl").write_text(
        '{"step": 1, "data": {"<img src=x onerror=window.hacked=1>": 1.0}}\n'
    )
    file = folder / "view.html"
    write_page([run, run], None, file)
    opened = Page(driver)
    opened.open(file)
    return opened


def addresses(page):
    """Every page that can be reached from here by links."""
    seen, waiting = [], ["#/run/0", "#/list", "#/compare"]
    while waiting:
        address = waiting.pop()
        if address in seen:
            continue
        seen.append(address)
        page.go(address)
        page.wait(lambda: page.all("main > *"))
        links = page.driver.execute_script(
            "return [...document.querySelectorAll('a')].map((link) => link.getAttribute('href'))"
        )
        assert all(link.startswith("#") for link in links)
        waiting += [link for link in links if link.startswith("#/")]
        yield address


def test_every_page_fits_a_narrow_screen(page):
    page.resize(360)
    try:
        for address in addresses(page):
            page.driver.execute_script(
                "document.querySelectorAll('details').forEach((node) => (node.open = true))"
            )
            assert page.overhang() == [], address
    finally:
        page.resize(None)


def test_no_page_runs_or_builds_what_a_text_says(page):
    kinds = set()
    for address in addresses(page):
        page.driver.execute_script(
            "document.querySelectorAll('details').forEach((node) => (node.open = true))"
        )
        assert page.text("h1") not in ("Not found", "This page could not be shown"), address
        assert not page.all("#app img, #app script, #app iframe, #app b b, #app [onerror]"), address
        assert page.driver.execute_script("return window.hacked") is None, address
        kinds.add(address.split("/")[1].split("?")[0])
    assert kinds == {"run", "list", "compare", "group", "trajectory", "question"}
    assert page.complaints() == []


def test_the_texts_are_shown_as_they_are(page):
    page.go("#/list")
    page.all("[data-row] a")[0].click()
    page.wait(lambda: page.all(".step.plan"))
    assert page.text("h1") == f"{ATTACK} {LINK}"
    assert page.texts(".step.plan dd") == [ATTACK] * 3
    assert page.text(".step.result .text") == ATTACK
    assert page.text(".step.verdict .text") == ATTACK
    assert ATTACK in page.text(".step.call")
    assert ATTACK in page.text(".memory")


def test_a_fault_says_why_and_has_no_figures(page):
    page.go("#/list?outcome=infra_error")
    page.wait(lambda: len(page.all("[data-row]")) == 2)
    page.all("[data-row] a")[0].click()
    page.wait(lambda: page.all(".timeline"))
    assert page.text(".note.bad") == ATTACK
    assert "not scored" in page.text(".facts")


def test_the_prompts_of_all_modules_are_shown(driver, tmp_path):
    run = write(tmp_path / "run", scored(trajectory(ATTACK)))
    Setup(limits=Limits(), tools=(PYTHON, SEARCH)).save(run / "trajectories")
    write_page([run], None, tmp_path / "view.html")
    page = Page(driver)
    page.open(tmp_path / "view.html", "#/trajectory/0/train/1/g/0")
    page.wait(lambda: page.all(".timeline"))
    wanted = {f"Prompt of the {module}" for module in MODULES}
    open_all = "document.querySelectorAll('details').forEach((node) => (node.open = true))"
    page.driver.execute_script(open_all)
    page.wait(lambda: wanted <= set(page.texts("summary")))
    page.driver.execute_script(open_all)
    page.wait(lambda: len(page.all(".sent")) == 2 * len(MODULES))
    assert any(ATTACK in text for text in page.texts(".sent"))
    assert not any("not known to be what was sent" in text for text in page.texts(".note"))
    assert page.driver.execute_script("return window.hacked") is None
