"""The recipe's launch script, as it stands, with a tiny model in the place of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from agentflow_verl.trajectories.log import read_log
from tests import commands
from tests.recipes.test_quickstart import wiki  # noqa: F401 - a fixture
from tests.recipes.test_recipes import composed
from tests.view.logs import scored, trajectory, write

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "small_model"
BASE = ROOT / "recipes" / "quickstart"
TINY = (  # the quickstart's model
    "agentflow.base.max_tokens=96",
    "data.max_prompt_length=900",
    "data.max_response_length=48",
    "actor_rollout_ref.rollout.max_model_len=1024",
    "actor_rollout_ref.rollout.n=2",
    "data.train_batch_size=2",
    "data.val_max_samples=4",
    "trainer.total_training_steps=1",
    "tools=two",  # the order that this model was made for
)


@pytest.mark.parametrize("variant", ["planner_executor", "shuffled"])
def test_a_variant_differs_from_the_recipe_in_what_it_is_named_for(variant: str) -> None:
    config = yaml.safe_load((RECIPE / f"{variant}.yaml").read_text())
    assert config.pop("defaults")[0] == "/small_model/planner"
    assert config.pop("trainer") == {"experiment_name": variant}
    assert (
        config
        == {
            "planner_executor": {
                "agentflow": {"train": ["planner", "executor"], "engines": {"executor": "policy"}}
            },
            "shuffled": {
                "reward": {
                    "custom_reward_function": {"path": "recipes/quickstart/shuffled_reward.py"}
                }
            },
        }[variant]
    )


def test_the_search_is_the_tool_that_prompts_list_first() -> None:
    assert list(composed("small_model/planner").agentflow.tools) == [
        "wikipedia_search",
        "python_coder",
    ]


def start(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The launch script, where it is to say something before anything is made."""
    return subprocess.run(
        ["bash", "recipes/small_model/run.sh", *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_variant_that_there_is_not_is_named_before_anything_is_made(tmp_path: Path) -> None:
    done = start("planner_executer", RUN=str(tmp_path / "run"))
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    assert done.stderr == (
        "there is no variant 'planner_executer': planner, planner_executor or shuffled\n"
    )


def test_a_run_does_not_go_on_with_another_model(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("one/model\n")
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("4")
    override = "actor_rollout_ref.model.path=another/model"
    for words, environment in (
        (("planner", override), {}),
        (("planner",), {"MODEL": override[29:]}),
    ):
        done = start(*words, RUN=str(tmp_path), **environment)
        assert done.returncode == 2
        assert done.stderr == (
            f"{tmp_path} is a run of one/model: RUN=FOLDER names another one for another/model\n"
        )


def test_a_run_that_is_done_is_only_reported(tmp_path: Path) -> None:
    for name in ("recipes", "agentflow_verl"):
        shutil.copytree(ROOT / name, tmp_path / name)
    run = tmp_path / "outputs/recipes/small_model/run-planner"
    run.mkdir(parents=True)
    (run / "memory.json").write_text('{"peak_memory_gb": 1.0}')
    data = {"agentflow/success": 0.5, "val-core/wiki/topic/reward/mean@2": 0.25}
    (run / "metrics-1.jsonl").write_text(json.dumps({"step": 12, "data": data}) + "\n")
    write(run, scored(trajectory(), step=12, split="val"))
    done = subprocess.run(
        ["bash", "recipes/small_model/run.sh", "planner"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(tmp_path),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "is trained and validated" in done.stdout
    assert json.loads((run / "summary.json").read_text())["steps"] == 12
    assert not list(run.glob("run.log"))


def transfer(run: Path) -> list[list[str]]:
    """The commands of docs/evidence.md that measure a trained planner, for this run and model."""
    here = {
        "RUN/": f"{run}/",
        "FOLDER": str(BASE / "base"),
        "global_step_12": "global_step_1",
        "quickstart,gameof24,amc23": "quickstart",
        "bfloat16 --max-model-len 4096": "float32 --max-model-len 1024",
    }
    found = [
        list(words)
        for words in commands.commands(ROOT / "docs/evidence.md")
        if any(word.startswith("RUN/") for word in words)
    ]
    assert [words[0] for words in found] == ["python", "agentflow"]
    for words in found:
        for old, new in here.items():
            words[:] = [word.replace(old, new) for word in words]
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("variant", ["planner", "planner_executor"])
def test_a_step_is_trained_between_two_evaluations(
    variant: str,
    wiki: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    for name in ("recipes", "agentflow_verl", "tool_servers"):
        shutil.copytree(ROOT / name, tmp_path / name)
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MODEL": str(BASE / "base"),
        "WIKI": str(wiki),
    }
    run = subprocess.run(
        ["bash", "recipes/small_model/run.sh", variant, *TINY],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert run.returncode == 0, (run.stdout + run.stderr)[-4000:]
    folder = tmp_path / "outputs/recipes/small_model" / f"run-{variant}"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 1
    assert "all, change" in run.stdout
    assert (folder.parent / "learning_curve.png").is_file()
    for step in (0, 1):
        assert len(read_log(folder / "trajectories", "val", step)) == 4 * 2
    # Of all 20: a tiny model may write no plan that can be read in a step of four.
    by_module = {}
    for split in ("train", "val"):
        for entry in read_log(folder / "trajectories", split):
            for reply in entry.trajectory.all_replies():
                by_module[reply.module] = reply.engine
    assert by_module["planner"] == "policy" and by_module["verifier"] == "base"
    assert by_module["executor"] == ("policy" if variant == "planner_executor" else "base")
    (tmp_path / "benchmarks").mkdir()
    shutil.copy(folder.parent / "data/val.parquet", tmp_path / "benchmarks/quickstart.parquet")
    for words in transfer(folder):
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    measured = (tmp_path / "trained/report.md").read_text()
    assert "| 20 × 1 |" in measured
    assert f"executor = {by_module['executor']}" in measured
