"""A LoRA adapter beside the weights that training started from."""

from __future__ import annotations

import json

import pytest

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.evaluation.adapter import NAME, adapter_args, adapter_of
from agentflow_verl.evaluation.session import fingerprint


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "lora_adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": 20, "lora_alpha": 32}))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_it_is_served_with_the_weights(model):
    assert adapter_args(str(model), "vllm") == (
        "--enable-lora",
        "--max-lora-rank",
        "32",
        "--lora-modules",
        f"{NAME}={model}/lora_adapter",
    )


def test_weights_alone_need_nothing(tmp_path):
    assert adapter_args(str(tmp_path), "vllm") == ()
    assert adapter_args("Qwen/Qwen2.5-0.5B-Instruct", "sglang") == ()
    assert adapter_of(str(tmp_path)) is None


def test_an_engine_that_would_leave_it_out_is_refused(model):
    with pytest.raises(ConfigError, match="lora_adapter is served by vLLM only"):
        adapter_args(str(model), "sglang")


def test_an_adapter_without_its_scale_is_refused(model):
    (model / "lora_adapter/adapter_config.json").write_text(json.dumps({"r": 8, "lora_alpha": 0}))
    with pytest.raises(ConfigError, match="lora_alpha is 0"):
        adapter_args(str(model), "vllm")


def test_it_belongs_to_what_identifies_a_checkpoint(model):
    before = fingerprint(model)
    (model / "lora_adapter/adapter_model.safetensors").write_bytes(b"others")
    assert fingerprint(model) != before
