"""What verl's real engine does to the weights is the gradient of the paper's formula, on any ranks
and micro-batches.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from agentflow_verl.flow_grpo import advantages, weights
from agentflow_verl.trainer.actor_loss import LOSS_WEIGHT
from agentflow_verl.trainer.batching.dealing import deal, plan_steps
from tests.e2e.models import save_random
from tests.flow_grpo import oracle
from tests.flow_grpo.oracle import Group, Options, Trajectory, Turn
from tests.trainer.engine import LR, Case, update

WANTED = Options(beta=0.05)


@dataclass
class Row:
    """One planner turn, and where it stands in the world. Padding has no place."""

    prompt: list[int]
    response: list[int]
    place: tuple[int, int, int] | None


@dataclass
class Batch:
    """Rows, and the same as the oracle's world: its log-probabilities are of the model it is asked
    for.
    """

    rows: list[Row]
    rewards: dict[tuple[int, int], float]
    valid: dict[tuple[int, int], bool]
    old: dict[tuple[int, int, int], list[float]]
    ref: dict[tuple[int, int, int], list[float]]

    def world(self, logprobs: dict[tuple[int, int, int], Tensor], groups: set[int]) -> list[Group]:
        made: dict[int, dict[int, Trajectory]] = {}
        for place, new in logprobs.items():
            group, trajectory, _ = place
            if group in groups:
                members = made.setdefault(group, {})
                one = members.setdefault(
                    trajectory,
                    Trajectory(self.rewards[group, trajectory], [], self.valid[group, trajectory]),
                )
                one.turns.append(
                    Turn(new.tolist(), self.old[place], self.ref[place], [1] * len(new))
                )
        return [Group(list(members.values())) for members in made.values()]


def logprobs_of(model: torch.nn.Module, row: Row) -> Tensor:
    logits = model(torch.tensor([[*row.prompt, *row.response]])).logits[0, len(row.prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(row.response).unsqueeze(1)).squeeze(1)


def make_batch(model: torch.nn.Module, turns: list[list[int]], seed: int) -> Batch:
    """``turns``: the turns of each trajectory of each group. Old and reference policies are near
    the model's.
    """
    rng = random.Random(seed)
    size = model.config.vocab_size
    batch = Batch([], {}, {}, {}, {})
    for g, group in enumerate(turns):
        for i, count in enumerate(group):
            batch.rewards[g, i] = rng.choice([0.0, 0.25, 1.0])
            batch.valid[g, i] = rng.random() > 0.15
            for t in range(count):
                row = Row(
                    [rng.randrange(size) for _ in range(rng.randint(3, 20))],
                    [rng.randrange(size) for _ in range(rng.randint(1, 12))],
                    (g, i, t),
                )
                with torch.no_grad():
                    now = logprobs_of(model, row)
                batch.old[g, i, t] = [value + rng.gauss(0, 0.2) for value in now.tolist()]
                batch.ref[g, i, t] = [value + rng.gauss(0, 0.2) for value in now.tolist()]
                batch.rows.append(row)
    return batch


def expected_weights(path: Path, batch: Batch, step_of_group: dict[int, int]) -> dict[str, Tensor]:
    """Gradient ascent on the oracle's objective in float64, one step after the other."""
    model = AutoModelForCausalLM.from_pretrained(path).double()
    for step in sorted(set(step_of_group.values())):
        groups = {group for group, own in step_of_group.items() if own == step}
        logprobs = {row.place: logprobs_of(model, row) for row in batch.rows}
        value = oracle.objective(batch.world(logprobs, groups), WANTED)
        order = sorted(groups)
        surrogate = torch.zeros((), dtype=torch.float64)
        for (g, i, t, j), slope in value.gradient.items():
            surrogate = surrogate + slope * logprobs[order[g], i, t][j]
        model.zero_grad()
        surrogate.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += LR * parameter.grad
    return {name: value.detach() for name, value in model.state_dict().items()}


def case_of(
    batch: Batch, groups_per_step: int, ranks: int, multiple: int, splitting: dict[str, Any]
) -> Case:
    """Rows dealt and weighed as trainer/trainers.py does."""
    real = len(batch.rows)
    group_R = [row.place[0] for row in batch.rows]
    step_R = plan_steps(group_R, groups_per_step)
    lengths = [len(row.prompt) + len(row.response) for row in batch.rows]
    dealt = deal(step_R, lengths, ranks, multiple)
    steps, per_rank = dealt.steps, dealt.per_rank
    rows = [*batch.rows, *[Row([1], [1], None)] * (dealt.size - real)]

    ids = [row.place or (1000 + n, 0, 0) for n, row in enumerate(rows)]
    arguments = (
        torch.tensor([batch.rewards.get(place[:2], 0.0) for place in ids]),
        torch.tensor([place[0] * 100 + place[1] for place in ids]),
        torch.tensor([place[0] for place in ids]),
        torch.tensor([batch.valid.get(place[:2], False) for place in ids]),
    )
    tokens_R = torch.tensor([len(row.response) for row in rows])
    order = dealt.order()
    step_of_row = torch.zeros(len(rows), dtype=torch.long)
    for position, row in enumerate(order):
        step_of_row[row] = position % (steps * per_rank) // per_rank
    assert step_of_row[:real].tolist() == step_R
    advantage_R = advantages(*arguments).float()
    weight_R = weights(*arguments, tokens_R, step_of_row).float()

    fields: dict[str, list[Tensor]] = {}
    for number in order:
        row, length = rows[number], len(rows[number].response)
        whole = torch.tensor(row.prompt + row.response)
        columns = {
            "prompts": torch.tensor(row.prompt),
            "responses": torch.tensor(row.response),
            "input_ids": whole,
            "position_ids": torch.arange(len(whole)),
            "response_mask": torch.full((length,), int(row.place is not None)),
            "loss_mask": torch.full((length,), int(row.place is not None)),
            "old_log_probs": torch.tensor(batch.old.get(row.place, [0.0] * length)),
            "ref_log_prob": torch.tensor(batch.ref.get(row.place, [0.0] * length)),
            "advantages": advantage_R[number].expand(length).clone(),
            LOSS_WEIGHT: weight_R[number].expand(length).clone(),
        }
        for name, value in columns.items():
            fields.setdefault(name, []).append(value)
    return Case(fields, steps, splitting)


DYNAMIC = {"use_dynamic_bsz": True, "max_token_len_per_gpu": 64}
UNEVEN = [[1, 5, 2, 1], [3, 3, 1], [1, 1, 1, 1], [4, 1]]
EVEN = [[2, 2, 2], [2, 2, 2]]
# turns of each trajectory of each group, groups a step, rows a rank's share is filled up to,
# splitting
CASES = {
    1: {
        "row by row": (UNEVEN, 4, 1, {"micro_batch_size_per_gpu": 1}),
        "two steps, padded to eights": (UNEVEN, 2, 8, {"micro_batch_size_per_gpu": 8}),
        "by tokens": (UNEVEN, 4, 1, DYNAMIC),
        "even turns": (EVEN, 2, 1, DYNAMIC),
    },
    2: {
        "by tokens": (UNEVEN, 4, 1, DYNAMIC),
        "four steps, padded to threes": (UNEVEN, 1, 3, {"micro_batch_size_per_gpu": 3}),
        "even turns, row by row": (EVEN, 2, 1, {"micro_batch_size_per_gpu": 1}),
    },
}


@pytest.mark.parametrize("ranks", CASES)
def test_verls_update_is_gradient_ascent_on_the_papers_objective(
    ranks: int, tmp_path: Path
) -> None:
    llama = save_random("llama", tmp_path / "llama")
    before = AutoModelForCausalLM.from_pretrained(llama)
    batches = {
        name: make_batch(before, case[0], seed)
        for seed, (name, case) in enumerate(CASES[ranks].items())
    }
    cases = [
        case_of(batches[name], groups, ranks, multiple, splitting)
        for name, (_, groups, multiple, splitting) in CASES[ranks].items()
    ]
    config = {
        "use_kl_loss": True,
        "kl_loss_coef": WANTED.beta,
        "kl_loss_type": "low_var_kl",
        "clip_ratio_c": 1e9,
    }
    for (name, batch), actual in zip(
        batches.items(), update(llama, cases, ranks, config, tmp_path / "run")
    ):
        groups_R = [row.place[0] for row in batch.rows]
        expected = expected_weights(
            llama, batch, dict(zip(groups_R, plan_steps(groups_R, CASES[ranks][name][1])))
        )
        moved = torch.cat(
            [
                (expected[key] - value.double()).flatten()
                for key, value in before.state_dict().items()
            ]
        )
        wrong = torch.cat(
            [(actual[key].double() - expected[key]).flatten() for key in before.state_dict()]
        )
        assert moved.norm() > 1e-2, name
        assert wrong.norm() / moved.norm() < 1e-4, name
