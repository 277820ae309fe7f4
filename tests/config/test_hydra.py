"""The packaged Hydra config: it composes on top of verl's, passes its own schema, and changes no
run of verl's own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import verl  # noqa: F401 - registers the search path
import yaml
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from agentflow_verl.config import schema
from agentflow_verl.trainer.rollout.worker_settings import WorkerSettings, resolve_node

PLATFORMS = ("accelerator", "cpu")


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    with initialize_config_module("verl.trainer.config", version_base=None):
        yield


def composed(*overrides: str) -> DictConfig:
    return compose("agentflow", list(overrides))


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_config_composes_and_passes_its_schema(platform):
    config = composed(f"platform={platform}")
    settings = schema.load(resolve_node(config.agentflow))
    assert settings.engines == schema.EnginesConfig()
    assert config.algorithm.adv_estimator == "flow_grpo"
    assert config.trainer.v1.trainer_mode == "agentflow_sync"
    assert config.trainer.device == ("cpu" if platform == "cpu" else "cuda")


def test_the_shipped_values_are_the_schemas_defaults():
    settings = schema.load(resolve_node(composed().agentflow))
    defaults = schema.AgentflowConfig()
    differing = {
        name
        for name in type(settings).model_fields
        if getattr(settings, name) != getattr(defaults, name)
    }
    assert differing == {"tools", "trajectory_dir"}


def test_every_key_of_the_schema_can_be_overridden_without_a_plus():
    """Hydra refuses an override of a key that the file does not list."""
    node = composed().agentflow
    for name, field in schema.AgentflowConfig.model_fields.items():
        assert name in node, name
        if isinstance(field.default, schema.ConfigModel):
            assert set(node[name]) == set(type(field.default).model_fields), name


def test_an_unknown_key_of_the_command_line_is_refused_by_hydra_or_by_the_schema():
    with pytest.raises(Exception, match="max_turn"):
        composed("agentflow.max_turn=2")
    added = composed("+agentflow.max_turn=2")
    with pytest.raises(schema.ConfigError, match="did you mean 'max_turns'"):
        schema.load(resolve_node(added.agentflow))


def test_trajectories_follow_the_run_folder():
    config = composed("trainer.default_local_dir=/runs/a")
    assert schema.load(resolve_node(config.agentflow)).trajectory_dir == "/runs/a/trajectories"


def test_the_base_model_is_one_override():
    config = composed("actor_rollout_ref.model.path=org/model")
    assert config.actor_rollout_ref.model.path == "org/model"


def test_the_classes_that_the_config_names_exist():
    import importlib

    config = composed()
    manager = config.actor_rollout_ref.rollout.agent.agent_loop_manager_class
    reward = config.reward.reward_manager
    for module, name in (
        (*manager.rsplit(".", 1),),
        (reward.module.path.removeprefix("pkg://"), reward.name),
    ):
        assert hasattr(importlib.import_module(module), name)


def test_what_the_manager_hands_to_workers_arrives(tmp_path):
    config = composed(f"trainer.default_local_dir={tmp_path}")
    runtime = WorkerSettings(
        schema.load(resolve_node(config.agentflow)),
        {"python_coder": ("http://a/mcp", "http://b/mcp")},
        ("one", "two"),
    )
    runtime.store(config)
    travelled = OmegaConf.create(OmegaConf.to_yaml(config))
    assert WorkerSettings.from_config(travelled) == runtime


# ---- in processes of their own, with nothing in the environment that could help ----


def environment(**more: str) -> dict[str, str]:
    kept = {
        name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ
    }
    return {**kept, **more}


def start(*arguments: str, folder: Path, **more: str) -> subprocess.Popen[str]:
    command = [sys.executable, *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment(**more), **pipes)


def output(process: subprocess.Popen[str]) -> str:
    text, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors[-2000:]
    return text


MAIN = ("-m", "verl.trainer.main_ppo")


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each command prints. Two at a time: an import of verl takes some seconds."""
    folder = tmp_path_factory.mktemp("cwd")
    ours = start(*MAIN, "--config-name", "agentflow", "--cfg", "job", "platform=cpu", folder=folder)
    loaded = start(
        "-c",
        "import sys, verl; print(sys.modules['agentflow_verl.trainer.plugin'].LOADED)",
        folder=folder,
    )
    texts = {"ours": output(ours), "loaded": output(loaded)}
    stock = start(*MAIN, "--config-name", "ppo_trainer", "--cfg", "job", folder=folder)
    without = start(
        *MAIN,
        "--config-name",
        "ppo_trainer",
        "--cfg",
        "job",
        folder=folder,
        VERL_USE_EXTERNAL_PLUGINS="none",
    )
    return {**texts, "stock": output(stock), "without": output(without)}


def test_import_verl_loads_the_plugin(printed):
    assert printed["loaded"].strip() == "True"


def test_the_config_name_alone_is_enough(printed):
    config = yaml.safe_load(printed["ours"])
    assert config["trainer"]["v1"]["trainer_mode"] == "agentflow_sync"
    assert config["trainer"]["device"] == "cpu"
    assert schema.EnginesConfig(**config["agentflow"]["engines"]) == schema.EnginesConfig()


def test_a_stock_run_composes_as_if_the_plugin_were_not_there(printed):
    assert printed["stock"] == printed["without"]
    assert len(printed["stock"]) > 10_000
    assert not re.search("agentflow|flow_grpo", printed["stock"])
