"""A vLLM server on a CPU is told to take what the evaluation can use, not the whole machine."""

from __future__ import annotations

import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.evaluation.vllm_memory import (
    OPTION,
    WITHOUT_A_CONFIG,
    bytes_per_token,
    cpu_memory_args,
    kv_cache_bytes,
    model_config,
)

GIB = 1 << 30
QWEN = {
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "hidden_size": 1536,
    "max_position_embeddings": 32_768,
    "torch_dtype": "bfloat16",
}


def test_keys_and_values_of_a_token():
    assert bytes_per_token(QWEN, ()) == 2 * 28 * 2 * 128 * 2
    assert bytes_per_token(QWEN, ("--dtype", "float32")) == 2 * 28 * 2 * 128 * 4
    assert bytes_per_token(QWEN, ("--dtype=float32",)) == 2 * 28 * 2 * 128 * 4
    assert bytes_per_token({**QWEN, "head_dim": 64}, ()) == 2 * 28 * 2 * 64 * 2
    assert bytes_per_token({}, ()) == 0


@given(sequences=st.integers(1, 512), available=st.integers(0, 1 << 40))
def test_one_full_sequence_always_fits_and_the_rest_takes_a_share_at_most(sequences, available):
    found = kv_cache_bytes(QWEN, (), sequences, available)
    one = bytes_per_token(QWEN, ()) * QWEN["max_position_embeddings"]
    assert found >= one
    assert found <= max(one * 1.01, available / 4)


def test_a_short_context_needs_little():
    args = ("--max-model-len", "1024")
    assert kv_cache_bytes(QWEN, args, 4, 64 * GIB) < 0.2 * GIB


def test_a_model_that_says_nothing_gets_a_modest_cache():
    assert kv_cache_bytes({}, (), 32, 64 * GIB) == WITHOUT_A_CONFIG


@pytest.mark.parametrize(
    ("args", "environment"),
    [
        ("--gpu-memory-utilization 0.3", {}),
        ("--gpu-memory-utilization=0.3", {}),
        (f"{OPTION} 1000", {}),
        ("", {"VLLM_CPU_KVCACHE_SPACE": "2"}),
    ],
)
def test_what_the_user_chose_stands(args, environment):
    assert cpu_memory_args("some/model", shlex.split(args), environment, 8) == ()


def test_the_configuration_is_the_language_models(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"text_config": QWEN, "vision_config": {}}))
    assert model_config(str(tmp_path))["num_hidden_layers"] == 28
    (tmp_path / "config.json").write_text("[]")
    assert model_config(str(tmp_path)) == model_config("hub/name") == {}
