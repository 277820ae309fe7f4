"""The parts of recipes/own do what its README says; ``-m slow`` trains a step with all of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.tools.embedded.supervisor import Supervisor
from agentflow_verl.tools.toolbox import ToolBox
from agentflow_verl.trajectories.log import read_log
from agentflow_verl.trajectories.records import Outcome, Trajectory, Turn

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "own"
WITH_PYTHON = (  # as in an activated environment
    f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
)


async def test_the_tool_starts_with_the_run_and_answers(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PATH", WITH_PYTHON)
    node = yaml.safe_load((RECIPE / "own.yaml").read_text())["agentflow"]["tools"]["unit_converter"]
    with Supervisor([ToolConfig(name="unit_converter", **node)], log_dir=tmp_path) as supervisor:
        async with await ToolBox.open(supervisor.configs) as tools:
            [spec] = tools.specs
            assert (spec.name, spec.description, spec.cacheable) == (
                "unit_converter",
                "Convert a length from one unit to another.",
                True,
            )
            assert spec.notes.startswith("Lengths only.")
            answer = await tools.call(
                "unit_converter", {"value": 12, "source": "mile", "target": "m"}, Deadline.after(30)
            )
            assert "19312.128 m" in answer.text and not answer.is_error
            wrong = await tools.call(
                "unit_converter",
                {"value": 1, "source": "mile", "target": "second"},
                Deadline.after(30),
            )
            assert wrong.is_error and "unknown unit 'second'" in wrong.text


@pytest.mark.parametrize(
    ("answer", "turns", "score"), [("2", 1, 1.0), ("2", 3, 0.8), ("3", 1, 0.0)]
)
def test_the_reward_takes_a_tenth_a_turn(answer, turns, score, monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPE))
    from reward import compute_score

    trajectory = Trajectory(
        id="a",
        query="?",
        turns=tuple(Turn(index=index) for index in range(turns)),
        answer=answer,
        outcome=Outcome.ANSWERED,
    )
    found = compute_score("divisors", answer, "2", {"scorer": "maths", "trajectory": trajectory})
    assert found["score"] == pytest.approx(score) and found["turns_taken"] == turns


@pytest.mark.slow
def test_a_step_is_trained_with_all_three(tmp_path):
    """The launch script as it stands, on a copy of what it needs, so that it makes the questions
    itself.
    """
    for name in ("recipes", "agentflow_verl", "tool_servers"):
        shutil.copytree(ROOT / name, tmp_path / name)
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "PATH": WITH_PYTHON,
        "VERL_FILE_LOGGER_PATH": str(tmp_path / "metrics.jsonl"),
    }
    command = [
        "bash",
        "recipes/own/run.sh",
        "trainer.logger=[console,file]",
        f"hydra.run.dir={tmp_path}/hydra",
    ]
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900
    )
    assert run.returncode == 0, (run.stdout + run.stderr)[-4000:]
    [metrics] = [
        json.loads(line)["data"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ]
    assert metrics["agentflow/trajectories"] == 16 and metrics[
        "agentflow/objective_mass"
    ] == pytest.approx(1.0)
    taken = read_log(tmp_path / "outputs/recipes/own/trajectories", "train")
    assert {one.data_source for one in taken} <= {"divisors", "lengths", "nq"}
    assert "unit_converter" in (tmp_path / "outputs/recipes/own/trajectories/flow.json").read_text()
