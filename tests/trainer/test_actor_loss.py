"""The loss that verl's actor calls is minus the objective of flow_grpo/, however verl cuts the
batch.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensordict import TensorDict
from torch import Tensor
from verl.utils import tensordict_utils as tu
from verl.workers.config import ActorConfig
from verl.workers.engine.utils import prepare_micro_batches
from verl.workers.utils.losses import ppo_loss

from agentflow_verl.trainer.actor_loss import LOSS_WEIGHT, choose_loss, flow_grpo_loss
from tests.flow_grpo import oracle, worlds
from tests.flow_grpo.oracle import Group, Options, Trajectory, Turn
from tests.flow_grpo.worlds import Rows, padded, shuffled, to_rows

torch.set_num_threads(1)
quick = settings(max_examples=20, deadline=None)
EXACT = {"rtol": 1e-9, "atol": 1e-9}
UNLIMITED = 1e9  # a dual clip that never acts


def actor_config(wanted: Options, **changed: object) -> ActorConfig:
    values = {
        "strategy": "fsdp2",
        "rollout_n": 8,
        "ppo_micro_batch_size_per_gpu": 1,
        "clip_ratio_low": wanted.clip_low,
        "clip_ratio_high": wanted.clip_high,
        "clip_ratio_c": UNLIMITED,
        "use_kl_loss": wanted.beta > 0,
        "kl_loss_coef": wanted.beta,
    }
    return ActorConfig(**{**values, **changed})


def packed(rows: list[Tensor]) -> Tensor:
    """A nested tensor as verl makes one of a model's outputs."""
    offsets = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
    return torch.nested.nested_tensor_from_jagged(torch.cat(rows), offsets)


def jagged(rows: list[Tensor]) -> Tensor:
    """A nested tensor as verl makes one of a batch's columns."""
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)


class Batch:
    """Rows as the engine hands them to a loss: nested tensors, a prompt before every response.

    A response ends where its row's last token is, as verl cuts it; log-probabilities stand one
    place to the left.
    """

    def __init__(self, rows: Rows, wanted: Options, dp_size: int = 1, **more_RL: Tensor):
        self.new_RL = rows.new_RL.clone().requires_grad_()
        self.mask_RL = rows.mask_RL
        advantage_R, weight_R = rows.advantages(wanted), rows.weights(wanted)
        self.rows, self.wanted, self.weight_R = rows, wanted, weight_R
        self.lengths = [4 if spot is None else 1 + (3 * sum(spot)) % 4 for spot in rows.place]
        last = [max([0, *(j + 1 for j in range(4) if row[j])]) for row in rows.mask_RL.tolist()]
        self.lengths = [max(length, needed) for length, needed in zip(self.lengths, last)]
        self.prompts = [1 + row % 3 for row in range(len(self.lengths))]
        columns = {
            "response_mask": rows.mask_RL,
            "old_log_probs": rows.old_RL,
            "advantages": advantage_R.unsqueeze(-1) * rows.mask_RL,
            LOSS_WEIGHT: weight_R.unsqueeze(-1) * rows.mask_RL,
            **more_RL,
        }
        if wanted.beta:
            columns["ref_log_prob"] = rows.ref_RL
        fields = {name: jagged(self.cut(column)) for name, column in columns.items()}
        fields["prompts"] = jagged(
            [torch.ones(length, dtype=torch.long) for length in self.prompts]
        )
        fields["responses"] = jagged(
            [torch.ones(length, dtype=torch.long) for length in self.lengths]
        )
        fields["input_ids"] = jagged(
            [torch.ones(p + r, dtype=torch.long) for p, r in zip(self.prompts, self.lengths)]
        )
        fields["loss_mask"] = fields["response_mask"]
        fields["row"] = torch.arange(len(self.lengths))
        self.data = TensorDict(fields, batch_size=len(self.lengths))
        facts = {
            "dp_size": dp_size,
            "batch_num_tokens": int(rows.mask_RL.sum()),
            "global_batch_size": len(self.lengths),
        }
        tu.assign_non_tensor(self.data, **facts)

    def cut(self, column_RL: Tensor) -> list[Tensor]:
        return [row[:length] for row, length in zip(column_RL, self.lengths)]

    def full_sequences(self, column_RL: Tensor) -> list[Tensor]:
        """As the model returns them: the response's values one place early, between values of no
        meaning.
        """
        parts = []
        for row, prompt in zip(self.cut(column_RL), self.prompts):
            parts.append(
                torch.cat([row.new_full((prompt - 1,), -7.0), row, row.new_full((1,), -9.0)])
            )
        return parts

    def loss_of(
        self, config: ActorConfig, data: TensorDict | None = None, **outputs_RL: Tensor
    ) -> tuple[Tensor, dict]:
        data = self.data if data is None else data
        picked = data["row"].tolist()
        outputs_RL = {"log_probs": self.new_RL, **outputs_RL}
        model_output = {}
        for name, column_RL in outputs_RL.items():
            sequences = self.full_sequences(column_RL)
            model_output[name] = packed([sequences[row] for row in picked])
        return flow_grpo_loss(config, model_output, data)

    def gradient(self, loss: Tensor) -> Tensor:
        return torch.autograd.grad(loss, self.new_RL)[0]


@settings(max_examples=40, deadline=None)
@given(worlds.worlds(steps=2), worlds.options(), st.integers(0, 2**32), st.integers(0, 2))
def test_the_loss_and_its_gradient_are_minus_the_oracles(world, wanted, seed, padding):
    rows = shuffled(padded(to_rows(world), padding), seed)
    batch, expected = Batch(rows, wanted), oracle.objective(world, wanted)
    loss, _ = batch.loss_of(actor_config(wanted))
    torch.testing.assert_close(
        loss, torch.tensor(-expected.objective, dtype=torch.float64), **EXACT
    )
    torch.testing.assert_close(
        batch.gradient(loss), -worlds.expected_gradient(expected, rows), **EXACT
    )


@quick
@given(
    worlds.worlds(min_group=2), worlds.options(), st.integers(0, 2**32), st.sampled_from((1, 2, 3))
)
def test_the_micro_batches_that_verl_makes_add_up(world, wanted, seed, size):
    rows = shuffled(to_rows(world), seed)
    rows = padded(rows, -len(rows.place) % size)
    batch, config = Batch(rows, wanted), actor_config(wanted)
    whole, metrics = batch.loss_of(config)
    tu.assign_non_tensor(batch.data, use_dynamic_bsz=False, micro_batch_size_per_gpu=size)
    micro_batches, _ = prepare_micro_batches(batch.data)
    assert len(micro_batches) == len(rows.place) // size
    parts = [batch.loss_of(config, data) for data in micro_batches]
    loss = sum(part for part, _ in parts)
    torch.testing.assert_close(loss, whole, **EXACT)
    torch.testing.assert_close(batch.gradient(loss), batch.gradient(whole), **EXACT)
    reported = sum(figures["actor/pg_loss"].aggregate() for _, figures in parts)
    assert reported == pytest.approx(metrics["actor/pg_loss"].aggregate(), abs=1e-9)


@quick
@given(worlds.worlds(min_group=2), worlds.options(), st.integers(2, 3))
def test_the_mean_over_ranks_is_the_whole(world, wanted, ranks):
    """FSDP averages gradients over ranks; rows are dealt unevenly on purpose."""
    rows = to_rows(world)
    rows = padded(rows, ranks)  # so that no rank is empty
    config, batch = actor_config(wanted), Batch(rows, wanted, dp_size=ranks)
    whole, _ = Batch(rows, wanted).loss_of(config)
    dealt = [
        [row for row in range(len(rows.place)) if row % (ranks + 1) % ranks == rank]
        for rank in range(ranks)
    ]
    shares = [
        batch.loss_of(config, tu.index_select_tensor_dict(batch.data, part))[0] for part in dealt
    ]
    torch.testing.assert_close(sum(shares) / ranks, whole, **EXACT)


def test_entropy_is_weighted_like_the_rest():
    wanted = Options(beta=0.1)
    rows = to_rows(example())
    batch = Batch(rows, wanted)
    entropy_RL = torch.rand(rows.new_RL.shape, dtype=torch.float64)
    plain, _ = batch.loss_of(actor_config(wanted))
    loss, metrics = batch.loss_of(actor_config(wanted, entropy_coeff=0.3), entropy=entropy_RL)
    mean = (entropy_RL * rows.mask_RL * batch.weight_R.unsqueeze(-1)).sum()
    torch.testing.assert_close(loss, plain - 0.3 * mean, **EXACT)
    assert metrics["actor/entropy_loss"].aggregate() == pytest.approx(float(mean))


def test_dual_clip_bounds_what_a_bad_token_costs():
    """A < 0, a ratio of 10: without dual clip the token costs 10 |A|, with c = 3 it costs 3 |A|."""
    far = Turn([-1.0], [-1.0 - math.log(10)], [-1.0], [1])
    rows = to_rows(
        [Group([Trajectory(0.0, [far]), Trajectory(1.0, [Turn([-1.0], [-1.0], [-1.0], [1])])])]
    )
    wanted = Options(eps=1e-12)
    cost = 1 / math.sqrt(2)  # |A| of two rewards that differ
    for limit, times in ((UNLIMITED, 10), (3.0, 3)):
        loss, _ = Batch(rows, wanted).loss_of(actor_config(wanted, clip_ratio_c=limit))
        assert float(loss.detach()) == pytest.approx((times * cost - cost) / 2, abs=1e-9)


def test_rollout_correction_weighs_the_policy_term_only():
    wanted = Options(beta=0.2)
    rows = to_rows(example())
    correction_RL = torch.rand(rows.new_RL.shape, dtype=torch.float64) + 0.5
    loss, _ = Batch(rows, wanted, rollout_is_weights=correction_RL).loss_of(actor_config(wanted))
    without_kl, with_kl = replace(wanted, beta=0.0), wanted
    columns = rows.advantages(wanted), rows.weights(wanted)
    kl = rows.objective(without_kl, *columns) - rows.objective(with_kl, *columns)
    corrected = replace(rows, mask_RL=rows.mask_RL * correction_RL).objective(without_kl, *columns)
    torch.testing.assert_close(loss, -corrected + kl, **EXACT)


def test_a_micro_batch_of_padding_alone_is_zero_and_finite():
    wanted = Options(beta=0.1)
    rows = padded(to_rows(example()), 3)
    alone = rows.take(list(range(len(rows.place) - 3, len(rows.place))))
    alone = replace(alone, mask_RL=torch.zeros_like(alone.mask_RL))  # as verl pads
    batch = Batch(alone, wanted)
    loss, metrics = batch.loss_of(actor_config(wanted))
    assert loss.item() == 0.0
    assert not batch.gradient(loss).any()
    assert all(
        math.isfinite(metric.aggregate())
        for metric in metrics.values()
        if hasattr(metric, "aggregate")
    )


def test_single_precision_columns_are_precise_enough():
    """verl's columns are float32, a token's weight is of the order of 1e-6."""
    turn = Turn([-1.0] * 4, [-1.3] * 4, [-1.1] * 4, [1] * 4)
    world = [Group([Trajectory(float(i % 2), [turn] * 3) for i in range(8)]) for _ in range(32)]
    rows, wanted = to_rows(world), Options(beta=0.001)
    single = Batch(rows, wanted)
    names = ("old_log_probs", "advantages", LOSS_WEIGHT, "ref_log_prob")
    for name in names:
        single.data[name] = single.data[name].float()
    single.new_RL = single.new_RL.detach().float().requires_grad_()
    loss, _ = single.loss_of(actor_config(wanted))
    exact, _ = Batch(rows, wanted).loss_of(actor_config(wanted))
    assert abs(float(exact)) > 0.01
    assert float(loss) == pytest.approx(float(exact), rel=1e-5)


def test_a_batch_without_weights_gets_verls_own_loss():
    """Any estimator but flow_grpo: nothing of ours is in the batch, and nothing of ours acts."""
    wanted = Options()
    batch = Batch(to_rows(example()), wanted)
    stock = batch.data.exclude(LOSS_WEIGHT)
    output = {"log_probs": packed(batch.full_sequences(batch.new_RL))}
    expected, _ = ppo_loss(actor_config(wanted), output, stock.clone())
    assert float(choose_loss(actor_config(wanted), output, stock.clone())[0]) == float(expected)
    assert float(choose_loss(actor_config(wanted), output, batch.data)[0]) != float(expected)


def test_the_data_parallel_size_is_this_batchs_and_not_an_earlier_ones():
    """verl keeps it in the config, which outlives the batch."""
    wanted = Options()
    rows, config = to_rows(example()), actor_config(Options())
    alone, _ = Batch(rows, wanted).loss_of(config)
    one_of_four, _ = Batch(rows, wanted, dp_size=4).loss_of(config)
    again, _ = Batch(rows, wanted).loss_of(config)
    assert float(again) == float(alone)
    assert float(one_of_four) == pytest.approx(4 * float(alone))


def example() -> list[Group]:
    def turn(*shifts: float) -> Turn:
        return Turn(
            [-1.0 + s for s in shifts],
            [-1.0] * len(shifts),
            [-1.1] * len(shifts),
            [1] * len(shifts),
        )

    return [
        Group(
            [Trajectory(1.0, [turn(0.3, 0.0), turn(-0.4)]), Trajectory(0.0, [turn(0.1, 0.5, -0.1)])]
        ),
        Group(
            [
                Trajectory(0.0, [turn(0.0)]),
                Trajectory(0.5, [turn(0.2)] * 3),
                Trajectory(1.0, [turn(0.1)], valid=False),
            ]
        ),
    ]
