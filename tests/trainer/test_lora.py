"""With a LoRA adapter the checkpoint's weights, which the frozen modules are answered from, do not
move.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.e2e.models import save_random
from tests.trainer.engine import update
from tests.trainer.test_engine_gradient import DYNAMIC, UNEVEN, case_of, make_batch


def test_an_update_moves_the_adapter_and_not_one_bit_of_the_checkpoint(tmp_path: Path) -> None:
    llama = save_random("llama", tmp_path / "llama")
    checkpoint = AutoModelForCausalLM.from_pretrained(llama)
    case = case_of(make_batch(checkpoint, UNEVEN, seed=0), 4, 1, 1, DYNAMIC)
    config = {
        "use_kl_loss": True,
        "kl_loss_coef": 0.05,
        "kl_loss_type": "low_var_kl",
        "clip_ratio_c": 1e9,
    }
    (after,) = update(llama, [case], 1, config, tmp_path / "run", lora_rank=4, lora_alpha=8)
    adapter = {name: value for name, value in after.items() if "lora_" in name}
    frozen = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): value
        for name, value in after.items()
        if name not in adapter
    }
    before = checkpoint.state_dict()
    assert sorted(frozen) == sorted(before)
    assert all(torch.equal(frozen[name], value) for name, value in before.items())
    assert all(value.abs().max() > 0 for name, value in adapter.items() if "lora_B" in name), (
        "it starts from zeros"
    )


@pytest.mark.parametrize("family", [pytest.param("qwen2", marks=pytest.mark.slow), "llama"])
def test_one_vllm_engine_serves_the_adapter_and_the_checkpoint_and_takes_the_next_adapter(
    family: str, tmp_path: Path
) -> None:
    model, out = save_random(family, tmp_path / "model"), tmp_path / "answers.json"
    subprocess.run(
        [sys.executable, "-m", "tests.trainer.adapter_serving", model, out], check=True, timeout=900
    )
    rounds = json.loads(out.read_text())
    for answers in rounds:
        for answer in answers.values():
            assert answer["served"] == pytest.approx(answer["computed"], abs=1e-4)
    before, first, second = rounds
    assert before["base"]["served"] == first["base"]["served"] == second["base"]["served"]
    for answers in (first, second):  # in one batch each request has what it asked for
        for name in ("base beside policy", "a second base"):
            assert answers[name]["served"] == pytest.approx(answers["base"]["served"], abs=1e-4)
    assert (
        first["policy"]["served"] != first["base"]["served"]
        and first["policy"]["served"] != second["policy"]["served"]
    )
    assert first["policy again"]["cached"] > 0, "the two share no cached prompt: each keeps its own"


@pytest.mark.parametrize("adapters", [[-1, 0, 1, 0, -1], [0, 0, 0, 0, 0], [-1] * 5, [1]])
def test_each_token_goes_through_its_own_adapter_and_one_without_through_none(
    adapters: list[int],
) -> None:
    pytest.importorskip("vllm")
    from agentflow_verl.trainer.cpu.lora import add_products

    torch.manual_seed(0)
    x, start = torch.randn(5, 8), torch.randn(5, 6)
    down, up = torch.randn(2, 1, 3, 8), torch.randn(2, 1, 6, 3)
    found = start.clone()
    add_products(found, x, (down, up), torch.tensor(adapters), 0.5)
    for row, adapter in enumerate(adapters * 5 if len(adapters) == 1 else adapters):
        expected = start[row]
        if adapter >= 0:
            expected = expected + 0.5 * up[adapter, 0] @ (down[adapter, 0] @ x[row])
        assert torch.allclose(found[row], expected, atol=1e-5)
