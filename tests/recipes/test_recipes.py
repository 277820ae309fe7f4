"""Every recipe composes, passes the checks that a run makes before it starts, and has a launch script that bash can read."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas
import pytest
import verl  # noqa: F401 - registers the search path
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from agentflow_verl.trainer import checks

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"
GROUPS = ("async", "engine", "tools")  # parts that recipes choose from
VERL = "hydra.searchpath=[pkg://verl.trainer.config]"  # as main_ppo has it; --config-dir adds the recipes
CONFIGS = sorted(
    f"{path.parent.name}/{path.stem}" for path in RECIPES.glob("*/*.yaml") if path.parent.name not in (*GROUPS, "common") and path.stem != "common"
)
VARIANTS = [
    *(("paper/paper", f"+{group}={path.stem}") for group in ("async", "engine") for path in (RECIPES / group).glob("*.yaml")),
    *((config, "+engine=sglang") for config in CONFIGS if config.startswith("one_gpu")),
    ("one_gpu/qwen2.5-7b-lora", "tools=five"),
]
SCRIPTS = sorted(RECIPES.glob("*/*.sh"))
OF_PAPER = {
    "actor_rollout_ref.actor.optim.lr": 1e-6,
    "actor_rollout_ref.actor.kl_loss_coef": 0.001,
    "actor_rollout_ref.rollout.n": 8,
    "actor_rollout_ref.rollout.temperature": 0.5,
    "actor_rollout_ref.rollout.val_kwargs.temperature": 0.7,
    "actor_rollout_ref.model.path": "Qwen/Qwen2.5-7B-Instruct",
    "data.train_batch_size": 32,
    "data.max_response_length": 2048,
    "agentflow.max_turns": 3,
}


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    with initialize_config_dir(str(RECIPES), version_base=None):
        yield


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the repository, as every launch script, and on the way into a Ray cluster: no GPU is asked for here."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("RAY_ADDRESS", "ray-head:6379")


def composed(name: str, *overrides: str) -> DictConfig:
    return compose(name, [VERL, *overrides])


def checked(name: str, folder: Path, *overrides: str) -> DictConfig:
    """The config after the checks of a run; questions and the folder of results are of this test."""
    rows = [{"data_source": "nq", "prompt": [{"role": "user", "content": "?"}], "reward_model": {"style": "rule", "ground_truth": "yes"}}]
    pandas.DataFrame(rows * 128).to_parquet(folder / "rows.parquet")
    files = [f"data.{split}_files={folder}/rows.parquet" for split in ("train", "val")]
    config = composed(name, *files, f"trainer.default_local_dir={folder}", *overrides)
    checks.check(config)
    return config


@pytest.mark.parametrize("name", CONFIGS)
def test_a_recipe_passes_the_checks_of_a_run(name, here, tmp_path):
    checked(name, tmp_path)


@pytest.mark.parametrize(("name", "override"), VARIANTS)
def test_a_variant_passes_the_checks_of_a_run(name, override, here, tmp_path):
    checked(name, tmp_path, override)


@pytest.mark.parametrize("name", [name for name in CONFIGS if "tiny" not in name])
def test_results_of_two_recipes_never_share_a_folder(name):
    others = [composed(other).trainer.experiment_name for other in CONFIGS if other != name and "tiny" not in other]
    assert composed(name).trainer.experiment_name not in others


@pytest.mark.parametrize(("key", "value"), OF_PAPER.items())
def test_the_paper_recipe_has_the_papers_value(key, value):
    node = composed("paper/paper")
    for part in key.split("."):
        node = node[part]
    assert node == value


def test_the_papers_optimizer_steps_are_of_eight_questions():
    config = composed("paper/paper")
    assert config.actor_rollout_ref.actor.ppo_mini_batch_size == 8
    assert len(config.agentflow.tools) == 5


def test_sglang_samples_where_it_is_asked_for():
    assert composed("paper/paper", "+engine=sglang").actor_rollout_ref.rollout.name == "sglang"


@pytest.mark.parametrize("config", CONFIGS)
def test_every_recipe_keeps_prompt_and_reply_inside_the_context(config):
    config = composed(config)
    data, rollout = config.data, config.actor_rollout_ref.rollout
    assert data.max_prompt_length + data.max_response_length <= rollout.max_model_len
    assert config.agentflow.base.max_tokens < rollout.max_model_len
    longest = min(config.actor_rollout_ref.actor.ppo_max_token_len_per_gpu, rollout.log_prob_max_token_len_per_gpu)
    assert longest >= data.max_prompt_length + data.max_response_length


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_script_is_bash_and_names_configs_and_files_that_are_there(script):
    subprocess.run([shutil.which("bash"), "-n", script], check=True)
    text = script.read_text()
    for name in re.findall(r"--config-name (\S+)", text):
        name = name.strip('"')
        known = [name] if name != "agentflow" and "$" not in name else [config for config in CONFIGS if "$" in name and config.startswith(name.split("$")[0])]
        assert known or name == "agentflow"
        assert set(known) <= set(CONFIGS)
    for path in re.findall(r"recipes/\w+/\w+\.(?:sh|py|jsonl)", text):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("folder", sorted({path.parent for path in SCRIPTS}), ids=lambda path: path.name)
def test_a_recipe_explains_itself_and_passes_overrides_on(folder):
    assert (folder / "README.md").is_file()
    launch = folder / "run.sh"
    assert launch.is_file() or folder.name == "paper_data"
    assert not launch.is_file() or re.search(r'"\$@"|"\$\{@:2\}"|overrides', launch.read_text())
