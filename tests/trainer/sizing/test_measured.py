"""The estimate beside what verl's worker really holds, in bf16 over fp32 weights as on GPUs, with
FSDP1 (verl's default strategy) and FSDP2.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from agentflow_verl.trainer.sizing.gpu_memory import Serving, Training, parts, state_bytes
from agentflow_verl.trainer.sizing.host import checkpoint_bytes
from agentflow_verl.trainer.sizing.model import size_of
from tests.benchmarks.shared_prefix import made_rows
from tests.trainer.sizing.measured import Way, measure

RANKS = 2
NOT_MEASURED = ("weights", "optimizer", "CUDA, NCCL")  # were there before, or are a GPU's own


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=4096,
        hidden_size=128,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "way",
    [
        Way("fsdp"),
        Way("fsdp2", shares=True),
        pytest.param(Way("fsdp", shares=True), marks=pytest.mark.slow),
        pytest.param(Way("fsdp2"), marks=pytest.mark.slow),
        pytest.param(Way("fsdp2", checkpointing=False), marks=pytest.mark.slow),
        pytest.param(Way("fsdp2", lora_rank=8), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_an_update_holds_what_the_estimate_says(way: Way, model: Path, tmp_path: Path) -> None:
    rows = made_rows(8, 1, 0, 0, 200)  # nothing is shared, so tokens are the same either way
    found = measure(model, way, rows, RANKS, tmp_path)
    size = size_of(str(model))
    tokens = sum(len(prompt) + len(response) for prompt, response in rows) // RANKS
    training = Training(
        RANKS,
        trained=size.adapter(way.lora_rank, "all-linear") if way.lora_rank else None,
        checkpointing=way.checkpointing,
        update_tokens=tokens,
        shares_prefixes=way.shares,
    )
    state = state_bytes(size, training)
    for rank in found:
        assert rank["weights"] == pytest.approx(state["weights"], rel=1e-3)
        assert rank["trained"] == pytest.approx(state["gradients"], rel=1e-3)
        assert rank["optimizer"] == pytest.approx(state["optimizer"], rel=1e-3)
    estimate = sum(
        part.update
        for part in parts(size, training, Serving(0.0), 0)
        if part.name not in NOT_MEASURED
    )
    assert found[0]["peak"] == pytest.approx(estimate, rel=0.25)
    written = sum(file.stat().st_size for file in (tmp_path / "checkpoint").glob("*.pt"))
    assert written == pytest.approx(
        checkpoint_bytes(size, training, ["model", "optimizer", "extra"]), rel=0.05
    )


@pytest.mark.slow
def test_fsdp1_and_fsdp2_compute_the_same(model: Path, tmp_path: Path) -> None:
    rows = made_rows(4, 2, 40, 20, 30)
    found = {}
    for strategy in ("fsdp", "fsdp2"):
        way = Way(strategy, shares=True)
        found[strategy] = measure(model, way, rows, RANKS, tmp_path / strategy)[0]
    for name in ("log_probs", "after"):
        for one, other in zip(found["fsdp"][name], found["fsdp2"][name]):
            # To one unit in the last place of bf16, in which logits are computed.
            torch.testing.assert_close(one, other, atol=1e-3, rtol=2**-8)
    change = found["fsdp"]["after"][0] - found["fsdp"]["log_probs"][0]
    assert change.abs().max() > 0.01  # the updates did something
