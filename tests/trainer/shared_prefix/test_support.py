"""Which runs share prefixes, and what the others are told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from omegaconf import DictConfig

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trainer.shared_prefix.support import (
    check_shared_prefix,
    shares_prefixes,
    why_no_architecture,
)
from tests.config.test_hydra import composed, hydra  # noqa: F401 - a fixture, used by name
from tests.e2e.models import save_random

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.usefixtures("hydra")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random("qwen2", tmp_path_factory.mktemp("model") / "qwen2")


def run(model: Path, *overrides: str) -> DictConfig:
    return composed("platform=cpu", f"actor_rollout_ref.model.path={model}", *overrides)


def test_a_run_shares_where_nothing_is_known_against_it(model, caplog):
    assert shares_prefixes(run(model))
    assert shares_prefixes(run(model, "agentflow.shared_prefix=true"))
    check_shared_prefix(run(model, "agentflow.shared_prefix=true"))
    assert not caplog.records


def test_false_is_verls_own_way_and_says_nothing(model, caplog):
    assert not shares_prefixes(run(model, "agentflow.shared_prefix=false"))
    assert not caplog.records


AGAINST = {
    "actor_rollout_ref.actor.strategy=megatron": "actor.strategy=megatron has an engine of its own",
    "actor_rollout_ref.ref.strategy=megatron": "ref.strategy=megatron has an engine of its own",
    "actor_rollout_ref.actor.ulysses_sequence_parallel_size=2": "splits a row over devices",
    "actor_rollout_ref.model.use_fused_kernels=true": "replaces the model's head",
    "actor_rollout_ref.actor.pad_to_length=true": "fixes the length of a packed batch",
    "+actor_rollout_ref.model.override_config.attention_dropout=0.1": "attention_dropout=0.1",
    "distillation.enabled=true": "needs the logits of whole rows",
    "trainer.device=npu": "trainer.device=npu was not tried",
}


@pytest.mark.parametrize("override, reason", AGAINST.items())
def test_what_speaks_against_it_is_said_once_or_refused(override, reason, model, caplog):
    assert not shares_prefixes(run(model, override))
    assert [reason in record.getMessage() for record in caplog.records] == [True]
    with pytest.raises(ConfigError, match=r"agentflow\.shared_prefix=true: .*=auto") as refused:
        check_shared_prefix(run(model, override, "agentflow.shared_prefix=true"))
    assert reason in str(refused.value)


def test_a_model_that_cannot_be_read_here_is_no_reason_to_end(tmp_path, caplog):
    assert not shares_prefixes(run(tmp_path / "nowhere"))
    assert "configuration cannot be read" in caplog.text


KINDS = {
    "Mamba2Config": "has layers of mamba",
    "Qwen3NextConfig": "has layers of linear_attention",
    "GptOssConfig": "takes s_aux",
    "GPT2Config": "resid_pdrop=0.1",
    "BloomConfig": "does not call transformers' attention interface",
    "Gemma3Config": "more than text",
}


@pytest.mark.parametrize("kind, reason", KINDS.items())
def test_kinds_of_models_that_cannot(kind, reason):
    assert reason in why_no_architecture(getattr(transformers, kind)())


def test_a_window_that_only_the_mask_knows_is_refused():
    plain = transformers.Qwen2MoeConfig()
    assert why_no_architecture(plain) is None
    plain.layer_types = ["sliding_attention"] * plain.num_hidden_layers
    assert "in its mask alone" in why_no_architecture(plain)
    assert why_no_architecture(transformers.MistralConfig(sliding_window=4)) is None


def test_a_worker_on_a_gpu_finds_the_engine():
    """What a worker imports is the plugin and its own class; nothing else registers the engine."""
    program = (
        "import agentflow_verl.trainer.plugin, agentflow_verl.trainer.actor_loss;"
        "from verl.workers.engine.base import EngineRegistry;"
        "engines = EngineRegistry._engines['language_model'];"
        "print([engines[name]['cuda', vendor].__name__ for name in ('fsdp', 'fsdp2')"
        " for vendor in ('nvidia', 'amd')])"
    )
    environment = {**os.environ, "VERL_PLATFORM": "", "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines()[-1] == str(["SharedPrefixEngine"] * 4)


def test_a_model_with_code_of_its_own_is_left_alone(model, tmp_path):
    found = transformers.AutoConfig.from_pretrained(model)
    found.auto_map = {"AutoModelForCausalLM": "modeling.Own"}
    assert "brings its own code" in why_no_architecture(found)
    assert json.loads((model / "config.json").read_text())["model_type"] == "qwen2"
