"""Every recipe composes, has only keys that exist, and passes what a run checks before it starts:
ours and verl's.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pandas
import pytest
import verl  # noqa: F401 - registers the search path
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from verl.utils.config import omega_conf_to_dataclass, validate_config

from agentflow_verl.cli import doctor
from agentflow_verl.cli import main as cli
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trainer.preflight import installation
from agentflow_verl.trainer.preflight.checks import INSTALLED, SERVERS, check_run
from agentflow_verl.trainer.preflight.static import gpus as gpus_of
from tests.engines.model_folders import write_model

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"
VERL = (  # as main_ppo has it; --config-dir adds the recipes
    "hydra.searchpath=[pkg://verl.trainer.config]"
)
# What recipes are made of, and the agent of the quickstart, for eval and solve.
PARTS = ("tools", "one_gpu/common", "quickstart/agent")
CONFIGS = sorted(
    name
    for path in RECIPES.glob("*/*.yaml")
    if not (name := f"{path.parent.name}/{path.stem}").startswith(PARTS)
)
SGLANG = "actor_rollout_ref.rollout.name=sglang"
ON_SGLANG = ("paper/paper", "one_gpu/full")
MERGED = "actor_rollout_ref.model.lora.merge=true"  # SGLang cannot read verl's adapter
VARIANTS = [
    *((name, ()) for name in CONFIGS),
    *((name, (SGLANG,)) for name in ON_SGLANG),
    ("one_gpu/lora", (SGLANG, MERGED)),
    ("paper/paper", ("tools=two",)),
]
SCRIPTS = sorted(RECIPES.glob("*/*.sh"))
# Nodes whose keys are a user's, an engine's or Ray's.
OPEN = re.compile(
    r"agentflow\.(tools|endpoints)|actor_rollout_ref\.model\.override_config|actor_rollout_ref\.rollout\.engine_kwargs\.\w+"
    r"|data\.apply_chat_template_kwargs|ray_kwargs\.ray_init"
)
OF_PAPER = {
    "actor_rollout_ref.model.path": "Qwen/Qwen2.5-7B-Instruct",
    "actor_rollout_ref.actor.optim.lr": 1e-6,
    "actor_rollout_ref.actor.kl_loss_coef": 0.001,
    "actor_rollout_ref.actor.ppo_mini_batch_size": 8,
    "actor_rollout_ref.rollout.n": 8,
    "actor_rollout_ref.rollout.temperature": 0.5,
    "actor_rollout_ref.rollout.val_kwargs.temperature": 0.7,
    "data.train_batch_size": 32,
    "data.max_response_length": 2048,
    "agentflow.max_turns": 3,
    "algorithm.adv_estimator": "flow_grpo",
}


@cache
def composed(name: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(RECIPES), version_base=None):
        config = compose(name, [VERL, *overrides])
    OmegaConf.set_readonly(config, True)
    return config


def keys_of(node: object, path: str = "") -> Iterator[str]:
    """Dotted names of everything in ``node``, down to the nodes whose keys are free."""
    if not isinstance(node, DictConfig) or OPEN.fullmatch(path):
        yield path
        return
    for key in node:
        yield from keys_of(node._get_node(key), f"{path}.{key}".lstrip("."))


def unknown_keys(config: DictConfig) -> set[str]:
    """Keys that neither verl's trainer nor agentflow has: Hydra takes any that a file sets."""
    known = set(keys_of(composed("agentflow"))) | set(
        keys_of(composed("agentflow", "platform=cpu"))
    )
    return {key for key in keys_of(config) if not OPEN.match(key)} - known


def passes_verl(config: DictConfig) -> None:
    """What main_ppo asks of a config first, and the dataclasses that its workers build."""
    asked = OmegaConf.merge(
        config, {"actor_rollout_ref": {"model": {"lora_rank": 0}}}
    )  # for a rank it would ask vLLM's GPU build
    validate_config(
        asked, use_reference_policy=config.actor_rollout_ref.actor.use_kl_loss, use_critic=False
    )
    for node in (config.actor_rollout_ref.rollout, config.algorithm):
        omega_conf_to_dataclass(node)


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """In the repository, as every launch script, with questions and folders of this test, on the
    way into a Ray cluster: no GPU here.
    """
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("RAY_ADDRESS", "ray-head:6379")
    row = {
        "data_source": "nq",
        "prompt": [{"role": "user", "content": "?"}],
        "reward_model": {"style": "rule", "ground_truth": "yes"},
    }
    pandas.DataFrame([row] * 128).to_parquet(tmp_path / "rows.parquet")
    write_model(tmp_path / "warm")
    return (
        *(f"data.{split}_files={tmp_path}/rows.parquet" for split in ("train", "val")),
        f"trainer.default_local_dir={tmp_path}",
    )


@pytest.mark.parametrize(
    ("name", "overrides"),
    VARIANTS,
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_recipe_passes_the_checks_of_a_run(name, overrides, rows, tmp_path):
    config = composed(name, *rows, *overrides)
    assert not unknown_keys(config)
    check_run(config, without=(SERVERS, *INSTALLED))
    passes_verl(config)


@pytest.mark.parametrize(
    "wrong",
    [
        "+actor_rollout_ref.rollout.temprature=0.5",
        "+trainer.n_gpu_per_node=8",
        "+data.max_promt_length=10",
        "+agentflow.max_turn=3",
        "+actor_rollout_ref.model.lora_rnk=32",
        "+actor_rollout_ref.actor.fsdp_config.param_ofload=true",
        "actor_rollout_ref.rollout.n=1",
        "data.train_batch_size=1024",
        "actor_rollout_ref.model.path=nowhere/at/all",
        "trainer.v1.trainer_mode=sync",
        "agentflow.engines.verifier=judge",
        "+agentflow.tools.python_coder.url=http://a/mcp",
    ],
)
def test_a_recipe_with_something_wrong_would_be_found(wrong, rows):
    config = composed("paper/paper", *rows, wrong)
    with pytest.raises((ConfigError, AssertionError, ValueError, TypeError, KeyError)):
        assert not unknown_keys(config)
        check_run(config, without=(SERVERS, *INSTALLED))
        passes_verl(config)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith("async")])
def test_verls_trainer_of_another_mode_takes_its_batches(name, rows, monkeypatch):
    from verl.trainer.ppo.v1 import get_trainer_cls
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer

    class Reached(Exception):
        """verl's own assertions are behind it."""

    def stop(*_: object) -> None:
        raise Reached

    monkeypatch.setattr(PPOTrainer, "__init__", stop)
    config = composed(name, *rows)
    with pytest.raises(Reached):
        get_trainer_cls(config.trainer.v1.trainer_mode)(config)


@pytest.mark.parametrize(("key", "value"), OF_PAPER.items())
def test_the_paper_recipe_has_the_papers_value(key, value):
    assert OmegaConf.select(composed("paper/paper"), key) == value


@pytest.mark.parametrize(
    ("name", "gpus"),
    [
        ("paper/paper", 8),
        *((name, 8) for name in CONFIGS if name.startswith(("async", "base_models"))),
        *((name, 1) for name in CONFIGS if name.startswith("one_gpu")),
        ("multi_node/multi_node", 40),
    ],
)
def test_a_recipe_takes_the_gpus_that_its_readme_says(name, gpus, rows):
    config = composed(name, *rows)
    assert sum(gpus_of(config, check_run(config, without=(SERVERS, *INSTALLED)))) == gpus


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith("small_model")])
def test_the_small_model_is_trained_on_one_gpu_where_there_is_one(name, rows):
    config = composed(name, "platform=accelerator", *rows)
    assert sum(gpus_of(config, check_run(config, without=(SERVERS, *INSTALLED)))) == 1


@pytest.mark.parametrize("name", CONFIGS)
def test_prompt_and_reply_fit_the_context_and_a_micro_batch(name):
    config = composed(name)
    data, rollout, actor, ref = (
        config.data,
        config.actor_rollout_ref.rollout,
        config.actor_rollout_ref.actor,
        config.actor_rollout_ref.ref,
    )
    longest = data.max_prompt_length + data.max_response_length
    assert longest <= rollout.max_model_len
    assert config.agentflow.base.max_tokens < rollout.max_model_len
    assert config.agentflow.memory_tokens < data.max_prompt_length
    assert longest <= min(
        actor.ppo_max_token_len_per_gpu,
        rollout.log_prob_max_token_len_per_gpu,
        ref.log_prob_max_token_len_per_gpu,
    )


def test_results_of_two_recipes_never_share_a_folder():
    folders = [composed(name).trainer.default_local_dir for name in CONFIGS if "tiny" not in name]
    assert len(set(folders)) == len(folders)


def test_a_run_that_cannot_start_says_so_before_it_starts(tmp_path):
    command = [
        sys.executable,
        "-m",
        "verl.trainer.main_ppo",
        "--config-dir",
        str(RECIPES),
        "--config-name",
        "paper/paper",
        f"hydra.run.dir={tmp_path}",
    ]
    run = subprocess.run(
        [*command, "data.train_files=nowhere.parquet"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )
    assert (
        run.returncode == 2
        and "agentflow: data.train_files: there is no file nowhere.parquet" in run.stderr
    ), run.stderr[-2000:]
    assert "Ray" not in run.stdout


def test_doctor_finds_a_recipe(monkeypatch):
    asked = []
    monkeypatch.setattr(doctor, "report", lambda *given: asked.extend(given) or 0)
    assert cli.main(["doctor", "--config-dir", str(RECIPES), "--config-name", "one_gpu/lora"]) == 0
    state: dict = {}
    list(installation.compose(*asked, state))
    assert state["config"].trainer.experiment_name == "one_gpu_lora"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_script_is_bash_and_names_configs_and_files_that_are_there(script):
    subprocess.run([shutil.which("bash"), "-n", script], check=True)
    text = script.read_text()
    for name in re.findall(r'--config-name "?([\w./]+)', text):
        assert name in (*CONFIGS, "agentflow") or (
            name.endswith("/") and (RECIPES / name).is_dir()
        ), name
    for path in re.findall(r"recipes/[\w./]+\.(?:sh|py|jsonl)", text):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in SCRIPTS}), ids=lambda path: path.name
)
def test_a_recipe_explains_itself_and_passes_overrides_on(folder):
    assert (folder / "README.md").is_file()
    assert re.search(r'"\$@"|"\$\{@:2\}"|overrides', (folder / "run.sh").read_text())
    assert f"({folder.name}/README.md)" in (RECIPES / "README.md").read_text()
