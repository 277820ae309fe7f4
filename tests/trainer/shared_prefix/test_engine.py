"""verl's engine with shared prefixes computes what it computes without: log-probabilities, entropy,
and the update, on any ranks and micro-batches.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from agentflow_verl.trainer.actor_loss import LOSS_WEIGHT
from agentflow_verl.trainer.shared_prefix.engine import SHARED_PREFIX
from tests.e2e.models import save_random
from tests.trainer.engine import Case, infer, update

DYNAMIC = {"use_dynamic_bsz": True, "max_token_len_per_gpu": 96}
ACTOR = {"use_kl_loss": True, "kl_loss_coef": 0.05, "entropy_coeff": 0.01, "clip_ratio_c": 1e9}


def group_case(seed: int, groups: int, splitting: dict[str, Any], **options: Any) -> Case:
    """Trajectories of 1 to 4 turns whose prompts grow, with equal rows, a response that begins as
    another does, and padding rows without a trained token. 24 rows.
    """
    rng = random.Random(seed)

    def draw(least: int, most: int) -> list[int]:
        return [rng.randrange(5, 200) for _ in range(rng.randint(least, most))]

    rows = []
    for _ in range(groups):
        first = draw(10, 30)
        while len(rows) < 22 * (1 + _) // groups:
            so_far = list(first)
            for _turn in range(rng.randint(1, 4)):
                rows.append((so_far, draw(1, 9)))
                so_far = so_far + draw(2, 12)
    rows = rows[:20]
    rows += [rows[0], (rows[1][0], rows[1][1] + draw(1, 3))]
    rows += [([3] * 15, [3])] * 2
    fields: dict[str, list[Tensor]] = {}
    for number, (prompt, response) in enumerate(rows):
        whole, length = torch.tensor(prompt + response), len(response)
        trained = int(number < 22)
        columns = {
            "prompts": torch.tensor(prompt),
            "responses": torch.tensor(response),
            "input_ids": whole,
            "position_ids": torch.arange(len(whole)),
            "response_mask": torch.full((length,), trained),
            "loss_mask": torch.full((length,), trained),
            "old_log_probs": torch.tensor([rng.gauss(-6.0, 0.3) for _ in range(length)]),
            "ref_log_prob": torch.tensor([rng.gauss(-6.0, 0.3) for _ in range(length)]),
            "advantages": torch.full((length,), rng.gauss(0, 1)),
            LOSS_WEIGHT: torch.full((length,), trained / (22 * length)),
        }
        for name, value in columns.items():
            fields.setdefault(name, []).append(value)
    return Case(fields, splitting=splitting, **{"mini_batches": 1, **options})


def both_ways(cases: list[Case]) -> list[Case]:
    """Each case flat, then with shared prefixes."""
    found = []
    for case in cases:
        found.append(case)
        found.append(replace(case, splitting={**case.splitting, SHARED_PREFIX: True}))
    return found


def flattened(weights: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.double().flatten() for value in weights.values()])


@pytest.mark.parametrize("ranks", [1, 2])
def test_log_probabilities_and_entropy_are_verls(ranks: int, tmp_path: Path) -> None:
    cases = [
        group_case(1, 1, DYNAMIC),
        group_case(2, 3, DYNAMIC),
        group_case(3, 2, {"micro_batch_size_per_gpu": 6}),
    ]
    qwen = save_random("qwen2", tmp_path / "qwen2")
    found = infer(qwen, both_ways(cases), ranks, tmp_path / "run")
    for case, flat, shared in zip(cases, found[::2], found[1::2]):
        for name in ("log_probs", "entropy"):
            for row, (prompt, expected, actual) in enumerate(
                zip(case.fields["prompts"], flat[name], shared[name])
            ):
                assert expected.shape == actual.shape
                # Positions before a response token; what stands within prompts nobody reads.
                wanted = slice(len(prompt) - 1, -1)
                assert torch.allclose(actual[wanted], expected[wanted], atol=1e-5), (name, row)


@pytest.mark.parametrize(
    "ranks, family, adapter",
    [
        (1, "qwen2", {}),
        (2, "llama", {}),
        (1, "gemma", {"enable_gradient_checkpointing": True}),
        (1, "qwen2", {"lora_rank": 4, "lora_alpha": 8}),
    ],
    ids=["one rank", "two ranks", "checkpointed layers", "LoRA"],
)
def test_an_update_is_verls(
    ranks: int, family: str, adapter: dict[str, Any], tmp_path: Path
) -> None:
    cases = [
        group_case(4, 2, DYNAMIC),
        group_case(5, 1, DYNAMIC, mini_batches=2, epochs=2),
        group_case(6, 3, {"micro_batch_size_per_gpu": 4}),
    ]
    model = save_random(family, tmp_path / family)
    found = update(model, both_ways(cases), ranks, ACTOR, tmp_path / "run", **adapter)
    start = update(
        model,
        [replace(cases[0], fields={**cases[0].fields, LOSS_WEIGHT: zeros(cases[0])})],
        ranks,
        ACTOR,
        tmp_path / "start",
        **adapter,
    )
    before = flattened(start[0])
    for flat, shared in zip(found[::2], found[1::2]):
        moved = flattened(flat) - before
        wrong = flattened(shared) - flattened(flat)
        assert moved.norm() > 1e-3
        assert wrong.norm() / moved.norm() < 1e-5 * 10


def zeros(case: Case) -> list[Tensor]:
    return [torch.zeros_like(weight) for weight in case.fields[LOSS_WEIGHT]]
