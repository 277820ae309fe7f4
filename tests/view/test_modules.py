"""Tokens and prompts of trained modules are told apart, in Chromium, over the logs of runs that
trained two modules and all five.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from agentflow_verl.cli.view import write
from agentflow_verl.flow.modules import MODULES
from agentflow_verl.trajectories.run_folder import Run
from agentflow_verl.view.detail import Pieces
from agentflow_verl.view.index import Index
from tests.view.browser import Page, needs_chromium
from tests.view.logs import lines, scored, tokenizer, trajectory
from tests.view.logs import write as write_log

LOGS = Path(__file__).parent / "modules"
TRAINED = {"planner_executor": ("planner", "executor"), "all": MODULES}


def tokens_of(line: dict) -> list[tuple[str, dict]]:
    """Each reply whose tokens are in the log, in the order of the calls."""
    made = line["trajectory"]
    found = [(reply["module"], reply["tokens"]) for reply in made["replies"][:1]]
    for turn in made["turns"]:
        for reply in turn["replies"]:
            planners = reply["module"] == "planner"
            found.append((reply["module"], turn["tokens"] if planners else reply["tokens"]))
    found += [(reply["module"], reply["tokens"]) for reply in made["replies"][1:]]
    return [(module, tokens) for module, tokens in found if tokens]


@pytest.fixture(params=TRAINED)
def opened(request, driver, tmp_path):
    """The page of a run, and its log."""
    path = tmp_path / "view.html"
    write([LOGS / request.param], tokenizer(tmp_path / "tokenizer.json"), path)
    page = Page(driver)
    page.open(path)
    yield page, request.param, lines(LOGS / request.param)
    assert page.complaints() == []


@needs_chromium
def test_each_modules_tokens_and_prompt_stand_under_its_name(opened):
    page, name, log = opened
    seen = set()
    for line in log:
        place = f"#/trajectory/0/train/1/{line['group']}/{line['session']}"
        page.go(place, line["trajectory"]["query"])
        page.wait(lambda: page.all(".timeline"))
        page.driver.execute_script(
            "document.querySelectorAll('.module-tokens details').forEach((node) =>"
            " (node.open = true))"
        )
        page.wait(
            lambda: len(page.all(".module-tokens .prompt")) == len(page.all(".module-tokens"))
        )
        shown = page.driver.execute_script(
            "return [...document.querySelectorAll('.module-tokens')].map((node) => [node.dataset"
            ".module, node.querySelector('h3').textContent, [...node.querySelectorAll('.token')]"
            ".map((token) => token.textContent), node.querySelector('.prompt').textContent])"
        )
        expected = []
        for module, tokens in tokens_of(line):
            seen.add(module)
            expected.append(
                [
                    module,
                    f"{module.capitalize()} tokens",
                    [f"w{token}" for token in tokens["response_ids"]],
                    "".join(f"w{token}" for token in tokens["prompt_ids"]),
                ]
            )
        assert shown == expected
        assert all("Trained." in text for text in page.texts(".module-tokens"))
    assert seen == set(TRAINED[name])


@needs_chromium
def test_trained_modules_are_told_apart_by_colour_in_place_and_on_the_timeline(opened):
    page, name, log = opened
    line = next(line for line in log if len({m for m, _ in tokens_of(line)}) == len(TRAINED[name]))
    page.go(
        f"#/trajectory/0/train/1/{line['group']}/{line['session']}", line["trajectory"]["query"]
    )
    page.wait(lambda: page.all(".timeline"))
    colours = page.driver.execute_script(
        "return Object.fromEntries([...document.querySelectorAll('.module-tokens')].map((node) =>"
        " [node.dataset.module, getComputedStyle(node).borderLeftColor]))"
    )
    assert set(colours) == set(TRAINED[name])
    assert len(set(colours.values())) == len(colours)
    ours = page.driver.execute_script(
        "return [...document.querySelectorAll('.lane')].filter((lane) =>"
        " lane.querySelector('.ours')).map((lane) => lane.getAttribute('aria-label'))"
    )
    assert set(ours) == set(TRAINED[name])


@needs_chromium
def test_a_planner_that_is_not_trained_says_so_beside_an_executor_that_is(driver, tmp_path):
    """The log has the planner's tokens in any case; Hydra's config says what was trained."""
    folder = tmp_path / "run"
    log = folder / "trajectories/train/step_000001/worker-1.jsonl"
    log.parent.mkdir(parents=True)
    source = LOGS / "planner_executor/trajectories/train/step_000001/worker-1.jsonl"
    log.write_text(source.read_text())
    config = folder / "hydra/.hydra/config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(yaml.safe_dump({"agentflow": {"train": ["executor"]}}))
    write([folder], None, tmp_path / "view.html")
    page = Page(driver)
    page.open(tmp_path / "view.html")
    line = next(line for line in lines(folder) if "executor" in dict(tokens_of(line)))
    page.go(
        f"#/trajectory/0/train/1/{line['group']}/{line['session']}", line["trajectory"]["query"]
    )
    page.wait(lambda: page.all(".timeline"))
    for module, said in (("planner", "Not trained"), ("executor", "Trained.")):
        texts = page.texts(f'.module-tokens[data-module="{module}"]')
        assert texts and all(said in text for text in texts)


@pytest.mark.parametrize(
    ("given", "trained"),
    [(["executor"], False), (["planner"], True), ("executor", True), (None, True)],
)
def test_whether_the_planner_is_trained_is_read_from_the_runs_config(given, trained, tmp_path):
    folder = write_log(tmp_path, scored(trajectory()))
    config = folder / ".hydra/config.yaml"
    config.parent.mkdir()
    config.write_text(json.dumps({"agentflow": {"train": given}}))
    run = Run(folder)
    run.refresh()
    index = Index()
    index.add(run, Pieces(None))
    assert index.runs[0]["trains_planner"] is trained
