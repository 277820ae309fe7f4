"""What a recipe prints after a run: figures of validations that took place, and of no others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.view.logs import scored, trajectory, write

REPORT = Path(__file__).parents[2] / "recipes" / "quickstart" / "report.py"


def report(out: Path, rewards: dict[int, list[float]]) -> tuple[list[list[str]], dict]:
    """The table's lines as words and the summary, of a run with held-out rewards by step."""
    run = out / "run-0"
    run.mkdir(parents=True, exist_ok=True)
    if not (run / "memory.json").exists():
        (run / "memory.json").write_text('{"peak_memory_gb": 1.0}')
    (run / "metrics-1.jsonl").write_text('{"step": 1, "data": {"agentflow/success": 0.5}}\n')
    for step, by_question in rewards.items():
        for number, reward in enumerate(by_question):
            made = trajectory(f"Question {number}?")
            write(run, scored(made, step=step, split="val", group=f"g{number}", reward=reward))
    command = [sys.executable, REPORT, "--run", run, "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (out / "learning_curve.png").stat().st_size > 0
    printed = [line.split() for line in done.stdout.splitlines()]
    return printed, json.loads((out / "summary.json").read_text())


def test_before_and_after_are_those_of_the_first_and_the_last_validation(tmp_path):
    printed, summary = report(tmp_path, {0: [0.0, 0.0], 2: [1.0, 0.0], 4: [1.0, 1.0]})
    assert ["all", "0.0%", "100.0%"] in printed
    assert ["all,", "change", "+100.0", "[+100.0,", "+100.0]", "of", "2"] in printed
    assert (summary["frozen_success"], summary["trained_success"]) == (0.0, 1.0)


def test_the_change_is_that_of_questions_in_both_validations_and_says_how_many(tmp_path):
    """A trial may have validated a few of them before the first step."""
    printed, summary = report(tmp_path, {0: [0.0], 4: [1.0, 0.0, 0.0]})
    assert ["all,", "change", "+100.0", "of", "1"] in printed, "one question has no interval"
    assert summary["trained_success"] == 0.3333


@pytest.mark.parametrize(
    ("rewards", "line", "figures"),
    [
        ({4: [1.0, 0.0]}, ["all", "–", "50.0%"], (None, 0.5)),
        ({0: [1.0, 0.0]}, ["all", "50.0%", "–"], (0.5, None)),
        ({}, ["all,", "change", "–"], (None, None)),
    ],
    ids=["not before", "not after", "never"],
)
def test_a_validation_that_was_not_made_has_no_figure(tmp_path, rewards, line, figures):
    printed, summary = report(tmp_path, rewards)
    assert line in printed
    assert ["all,", "change", "–"] in printed
    assert (summary["frozen_success"], summary["trained_success"]) == figures


def test_what_a_command_that_was_killed_left_behind_costs_only_its_part(tmp_path):
    for name, text in {"run-0": '{"peak_mem', "run-1": "", "run-2": '{"steps": 3}'}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(text)
    (tmp_path / "run-0" / "memory.json").write_text("")
    printed, summary = report(tmp_path, {0: [0.0, 0.0], 4: [1.0, 0.0]})
    assert ["all", "0.0%", "50.0%"] in printed
    assert summary["peak_memory_gb"] is None


def test_a_run_that_is_not_there_is_one_line(tmp_path):
    command = [sys.executable, REPORT, "--run", tmp_path / "none", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert f"error: {tmp_path}/none: there is no such folder" in done.stderr


@pytest.mark.parametrize("before", [None, "", "{}", '{"peak_memory_gb": 7.5}'])
def test_the_peak_of_memory_is_kept_and_the_commands_exit_status_too(tmp_path, before):
    if before is not None:
        (tmp_path / "memory.json").write_text(before)
    command = [sys.executable, REPORT.parent / "watch.py", "--out", tmp_path, "--"]
    command += [sys.executable, "-c", "raise SystemExit(3)"]
    assert subprocess.run(command, timeout=60).returncode == 3
    peak = json.loads((tmp_path / "memory.json").read_text())["peak_memory_gb"]
    assert peak == (7.5 if before and "7.5" in before else 0.0)
