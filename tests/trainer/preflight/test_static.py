"""Everything that can be known before a run starts, one clear line each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentflow_verl.config.schema import AgentflowConfig
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trainer.preflight.checks import SERVERS, check_run
from agentflow_verl.trainer.preflight.static import MODES, check_adapter
from agentflow_verl.trainer.trainers import (
    FlowTrainerColocateAsync,
    FlowTrainerSeparateAsync,
    FlowTrainerSync,
)
from tests.engines.model_folders import write_model
from tests.trainer.preflight.runs import make_config, make_row, write_rows


@pytest.fixture
def good(tmp_path: Path) -> list[str]:
    """Overrides of a run that could start here."""
    model = write_model(tmp_path / "model")
    write_rows(tmp_path / "train.parquet", [make_row()] * 4)
    write_rows(tmp_path / "test.parquet", [make_row()])
    return [
        f"actor_rollout_ref.model.path={model}",
        f"data.train_files={tmp_path}/train.parquet",
        f"data.val_files={tmp_path}/test.parquet",
        "data.train_batch_size=4",
        "actor_rollout_ref.actor.ppo_mini_batch_size=4",
        f"trainer.default_local_dir={tmp_path}/run",
    ]


def check(*overrides: str) -> AgentflowConfig:
    """All checks of a run, but for those that would send something."""
    return check_run(make_config(*overrides), without=(SERVERS,))


def complaint(*overrides: str) -> str:
    with pytest.raises(ConfigError) as raised:
        check(*overrides)
    text = str(raised.value)
    assert "\n" not in text
    return text


def test_a_prompt_template_with_a_wrong_field_is_refused(good, tmp_path):
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "verifier.md").write_text("Judge.\n---\n$query $memori")
    said = complaint(*good, f"agentflow.prompts={tmp_path}/prompts")
    assert said.startswith(f"agentflow.prompts: {tmp_path}/prompts/verifier.md: ")
    assert "no field $memori; did you mean 'memory'?" in said


def test_a_good_run_passes_and_leaves_its_folders_ready(good, tmp_path):
    settings = check(*good)
    assert settings.max_turns == 3
    assert (tmp_path / "run" / "trajectories").is_dir()
    assert not list((tmp_path / "run").glob(".agentflow*"))


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("agentflow=null", "agentflow: there must be a node of settings"),
        ("~agentflow", "agentflow: there must be a node of settings"),
        ("agentflow=3", "agentflow: there must be a node of settings"),
        ("agentflow.max_turns=0", "agentflow.max_turns: "),
        ("agentflow.engines.planner=gpt", "agentflow.engines.planner: no engine is called 'gpt'"),
        (
            "agentflow.train=[planner,executor]",
            "agentflow.engines.executor=base: a module that is trained is answered by the policy",
        ),
        ("agentflow.train=[]", "agentflow.train=[]: name each module that is trained once"),
        (
            "agentflow.trajectory_dir=${nowhere}",
            "agentflow.trajectory_dir: Interpolation key 'nowhere' not found",
        ),
        ("trainer.use_v1=false", "trainer.use_v1=false"),
        (
            "trainer.v1.trainer_mode=sync",
            "trainer.v1.trainer_mode=sync: with agentflow use one of agentflow_sync",
        ),
        (
            "actor_rollout_ref.actor.policy_loss.loss_mode=clip_cov",
            "policy_loss.loss_mode=clip_cov",
        ),
        ("distillation.enabled=true", "distillation.enabled=true replaces the loss of flow_grpo"),
        (
            "actor_rollout_ref.rollout.n=1",
            "actor_rollout_ref.rollout.n=1: a group needs at least 2",
        ),
        ("actor_rollout_ref.model.path=null", "actor_rollout_ref.model.path is not set"),
        ("actor_rollout_ref.model.path=/no/such/folder", "there is no folder /no/such/folder"),
        ("actor_rollout_ref.model.path=./nowhere", "there is no folder ./nowhere"),
        (
            "data.train_files=/no/such.parquet",
            "data.train_files: there is no file /no/such.parquet",
        ),
        ("data.train_files=[]", "data.train_files is not set"),
        ("data.train_files=???", "data.train_files: Missing mandatory value"),
        ("data.val_files=null", "data.val_files is not set"),
        ("data.val_files=[/no/such.parquet]", "data.val_files: there is no file /no/such.parquet"),
        ("data.train_batch_size=5", "has 4 rows, fewer than the 5 that one batch needs"),
        ("data.prompt_key=question", "has no column question"),
        (
            "trainer.default_local_dir=/proc/run",
            "trainer.default_local_dir: cannot write to /proc/run",
        ),
    ],
)
def test_what_is_wrong_is_named(good, override, named):
    assert named in complaint(*good, override)


def test_rollout_correction_may_not_replace_the_loss(good):
    assert "bypass_mode" in complaint(*good, "algorithm.rollout_correction.bypass_mode=true")


def test_another_estimator_keeps_verls_freedom(good):
    """The rules of flow_grpo bind flow_grpo only."""
    check(
        *good,
        "algorithm.adv_estimator=grpo",
        "actor_rollout_ref.actor.policy_loss.loss_mode=clip_cov",
    )


def test_a_model_folder_needs_a_config(good, tmp_path):
    (tmp_path / "model" / "config.json").unlink()
    assert "has no config.json" in complaint(*good)


@pytest.mark.parametrize("path", ["org/model", "hdfs://cluster/models/a"])
def test_what_is_fetched_later_is_not_looked_for_here(good, path):
    check(*good, f"actor_rollout_ref.model.path={path}")


def test_data_in_a_bucket_is_not_looked_for_here(good):
    check(*good, "data.train_files=s3://bucket/train.parquet")


def test_every_row_of_the_data_is_looked_at(good, tmp_path):
    write_rows(tmp_path / "test.parquet", [make_row(), make_row(prompt=[])])
    assert "test.parquet, row 1: prompt has no user message" in complaint(*good)


def test_a_key_must_be_in_the_environment(good, monkeypatch):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    endpoint = (
        "+agentflow.endpoints.judge={base_url: 'http://x/v1', model: m, api_key_env: JUDGE_KEY}"
    )
    assert (
        complaint(*good, endpoint)
        == "agentflow.endpoints.judge.api_key_env: JUDGE_KEY is not set in the environment"
    )
    monkeypatch.setenv("JUDGE_KEY", "x")
    check(*good, endpoint)


def test_a_gpu_run_without_a_gpu_says_what_to_do(good, monkeypatch):
    import torch

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "add platform=cpu" in complaint(*good, "trainer.device=cuda")
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    check(*good, "trainer.device=cuda", "ray_kwargs.ray_init.address=null")


@pytest.mark.parametrize(
    ("overrides", "served"),
    [
        ((), 1),
        (("agentflow.base.replicas=2",), 2),
        (("actor_rollout_ref.rollout.tensor_model_parallel_size=2",), 2),
        (("actor_rollout_ref.model.lora_rank=8",), 0),
        (
            (
                "trainer.v1.trainer_mode=agentflow_separate_async",
                "trainer.v1.separate_async.parameter_sync_step=1",
                "actor_rollout_ref.rollout.nnodes=1",
                "actor_rollout_ref.rollout.n_gpus_per_node=3",
            ),
            4,
        ),
    ],
)
def test_gpus_of_the_frozen_base_and_of_a_rollout_apart_are_counted_before_the_start(
    good, overrides, served
):
    few = f"ray_kwargs.ray_init.num_gpus={7 + served}"
    assert f"asks for 8 GPUs and rollout servers of their own for {served}" in complaint(
        *good, *overrides, few, "trainer.n_gpus_per_node=8"
    )
    many = "ray_kwargs.ray_init.num_cpus=64"
    check(*good, *overrides, few, many, "trainer.n_gpus_per_node=6")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(good, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert "cannot write to" in complaint(*good, f"agentflow.trajectory_dir={locked}/t")


def test_the_modes_are_those_that_are_registered():
    trainers = (FlowTrainerSync, FlowTrainerColocateAsync, FlowTrainerSeparateAsync)
    assert {f"agentflow_{trainer.base_mode}" for trainer in trainers} == set(MODES)


def test_an_adapter_that_verl_would_never_send_is_refused(good):
    separate = (
        "trainer.v1.trainer_mode=agentflow_separate_async",
        "trainer.v1.separate_async.parameter_sync_step=1",
        "actor_rollout_ref.model.lora_rank=8",
    )
    assert "lora.merge=true" in complaint(*good, *separate)
    check(*good, *separate, "actor_rollout_ref.model.lora.merge=true")
    check(*good, "actor_rollout_ref.model.lora_rank=8")


def test_an_adapter_that_sglang_cannot_read_is_refused(good):
    sglang = ("actor_rollout_ref.rollout.name=sglang", "actor_rollout_ref.model.lora_rank=8")
    assert "set actor_rollout_ref.model.lora.merge=true" in complaint(*good, *sglang)
    merged = make_config(*good, *sglang, "actor_rollout_ref.model.lora.merge=true")
    check_adapter(merged)
