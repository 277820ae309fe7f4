"""Parameters are counted exactly, from headers or from a configuration alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trainer.sizing.model import from_config, size_of

BASE = Path(__file__).parents[3] / "recipes/quickstart/base"
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
QWEN2 = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
PUBLISHED = {  # parameters as the hub states them, and the configuration's figures
    "Qwen2.5-7B-Instruct": (
        7_615_616_512,
        {**QWEN2, "tie_word_embeddings": False, "vocab_size": 152064},
        (3584, 18944, 28, 28, 4),
    ),
    "Qwen2.5-1.5B-Instruct": (
        1_543_714_304,
        {**QWEN2, "tie_word_embeddings": True, "vocab_size": 151936},
        (1536, 8960, 28, 12, 2),
    ),
    "Qwen2.5-3B-Instruct": (
        3_085_938_688,
        {**QWEN2, "tie_word_embeddings": True, "vocab_size": 151936},
        (2048, 11008, 36, 16, 2),
    ),
    "Llama-3.1-8B-Instruct": (
        8_030_261_248,
        {**LLAMA, "tie_word_embeddings": False, "vocab_size": 128256},
        (4096, 14336, 32, 32, 8),
    ),
    "Mixtral-8x7B": (
        46_702_792_704,
        {
            "model_type": "mixtral",
            "architectures": ["MixtralForCausalLM"],
            "tie_word_embeddings": False,
            "vocab_size": 32000,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
        },
        (4096, 14336, 32, 32, 8),
    ),
}
WIDTHS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads",
)  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_configuration_alone_gives_the_published_count(name: str, tmp_path: Path) -> None:
    count, config, widths = PUBLISHED[name]
    written = {**config, **dict(zip(WIDTHS, widths))}
    (tmp_path / "config.json").write_text(json.dumps(written))
    size = size_of(str(tmp_path))
    assert size.parameters == count
    # Layers and what is outside of them make the whole, but for the last norm.
    assert size.per_layer * size.layers + size.outside_layers == pytest.approx(count, rel=1e-5)


def test_the_headers_of_weights_give_the_count_that_loading_gives() -> None:
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(BASE)
    assert size_of(str(BASE)).parameters == sum(one.numel() for one in loaded.parameters())


def test_an_adapter_is_as_large_as_pefts() -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(BASE)
    for targets in ("all-linear", ["q_proj", "down_proj"]):
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(BASE), LoraConfig(r=8, target_modules=targets)
        )
        trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
        assert size_of(str(BASE)).adapter(8, targets) == trained
    assert loaded.num_parameters() == size_of(str(BASE)).parameters


def test_targets_that_are_one_name_or_none() -> None:
    size = size_of(str(BASE))
    assert size.adapter(8, "q_proj") == size.adapter(8, ["q_proj"]) > 0
    assert size.adapter(8, r".*\.q_proj") == size.adapter(8, None) == size.adapter(8, "all-linear")


@pytest.mark.parametrize(
    "changed",
    [
        {"intermediate_size": [8192, 4096]},
        {"num_attention_heads": [32, 16]},
        {"num_hidden_layers": 0},
        {"hidden_act": "unknown"},
        {"num_experts_per_tok": "two"},
    ],
    ids=str,
)
def test_a_configuration_of_an_unusual_shape_is_an_error_in_a_line(changed, tmp_path) -> None:
    _, config, widths = PUBLISHED["Llama-3.1-8B-Instruct"]
    written = {**config, **dict(zip(WIDTHS, widths)), **changed}
    (tmp_path / "config.json").write_text(json.dumps(written))
    with pytest.raises(ConfigError) as raised:
        size_of(str(tmp_path))
    assert "\n" not in str(raised.value)
    with pytest.raises(ConfigError):
        from_config({**written, "num_hidden_layers": []}, 1, False)


@pytest.mark.parametrize(
    ("config", "plain"),
    [
        ({}, True),
        ({"sliding_window": 4096}, False),
        ({"layer_types": ["full_attention", "full_attention"]}, True),
        ({"layer_types": ["full_attention", "sliding_attention"]}, False),
        ({"kv_lora_rank": 512}, False),
        ({"quantization_config": {"bits": 4}}, False),
        ({"model_type": "mamba"}, False),
    ],
    ids=str,
)
def test_a_model_is_plain_where_every_layer_keeps_every_token(config, plain) -> None:
    _, published, widths = PUBLISHED["Llama-3.1-8B-Instruct"]
    assert (
        from_config({**published, **dict(zip(WIDTHS, widths)), **config}, 1, False).plain is plain
    )


def test_a_model_that_is_not_here_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="config.json cannot be read"):
        size_of(str(tmp_path / "nowhere"))
