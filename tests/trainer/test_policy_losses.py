"""verl's policy losses with Flow-GRPO's weights, against loops over plain floats.

The sum over a world of 1/(N G T) times the loss of each turn, however its rows are split: nothing
here knows tensors, and each formula is its paper's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from verl.utils import tensordict_utils as tu
from verl.workers.config import PolicyLossConfig

from agentflow_verl.trainer import policy_losses
from agentflow_verl.trainer.actor_loss import LOSS_WEIGHT
from tests.flow_grpo import oracle
from tests.flow_grpo.oracle import Group, Options, Trajectory, Turn
from tests.flow_grpo.worlds import to_rows
from tests.trainer.test_actor_loss import EXACT, Batch, actor_config

LOW, HIGH = 0.2, 0.3
DRO_BETA = 0.4
TAU = {True: 1.0, False: 1.05}  # verl's tau_pos and tau_neg

TurnLoss = Callable[[Turn, float], float]


def clip(value: float) -> float:
    return min(max(value, 1 - LOW), 1 + HIGH)


def trained(turn: Turn) -> list[tuple[float, float]]:
    """(new, old) of each trained token."""
    return [(new, old) for new, old, mask in zip(turn.new, turn.old, turn.mask) if mask]


def gspo(turn: Turn, gain: float) -> float:
    """arXiv 2507.18071, equation 5: one ratio per turn, the geometric mean of its tokens'."""
    tokens = trained(turn)
    ratio = math.exp(sum(new - old for new, old in tokens) / len(tokens))
    return -min(ratio * gain, clip(ratio) * gain)


def gmpo(turn: Turn, gain: float) -> float:
    """arXiv 2507.20673, equation 4: each token's log-ratio is clipped, then their mean is taken."""
    total = 0.0
    sign = 1 if gain > 0 else -1
    for new, old in trained(turn):
        bounded = min(max(new - old, -LOW), HIGH)
        total += sign * min(sign * (new - old), sign * bounded)
    return -gain * math.exp(total / len(trained(turn)))


def mean_over_tokens(loss: Callable[[float, float, float], float]) -> TurnLoss:
    def of_turn(turn: Turn, gain: float) -> float:
        tokens = trained(turn)
        return sum(loss(new, old, gain) for new, old in tokens) / len(tokens)

    return of_turn


def sapo(new: float, old: float, gain: float) -> float:
    """arXiv 2511.20347: a sigmoid gate in the place of the clipped ratio."""
    tau = TAU[gain > 0]
    gate = 4 / tau / (1 + math.exp(-tau * (math.exp(new - old) - 1)))
    return -gate * gain


def dro(new: float, old: float, gain: float) -> float:
    return -(new * gain - 0.5 * DRO_BETA * (new - old) ** 2)


def cispo(new: float, old: float, gain: float) -> float:
    """arXiv 2506.13585: the clipped ratio is a constant factor of the log-probability."""
    return -clip(math.exp(new - old)) * gain * new


def gpg(new: float, old: float, gain: float) -> float:
    return -gain * new


LOSSES: dict[str, TurnLoss] = {
    "gspo": gspo,
    "geo_mean": gmpo,
    "sapo": mean_over_tokens(sapo),
    "dro": mean_over_tokens(dro),
    "cispo": mean_over_tokens(cispo),
    "gpg": mean_over_tokens(gpg),
}


def turn(*shifts: float, mask: tuple[int, ...] | None = None) -> Turn:
    ones = [1] * len(shifts)
    return Turn(
        [-1.0 + s for s in shifts], [-1.0] * len(shifts), [-1.1] * len(shifts), list(mask or ones)
    )


WORLD = [
    Group(
        [
            Trajectory(1.0, [turn(0.3, -0.1), turn(-0.4), turn(0.5, 0.6, 0.1, mask=(1, 0, 1))]),
            Trajectory(0.0, [turn(0.1, 0.5, -0.3)]),
        ]
    ),
    Group(
        [
            Trajectory(0.0, [turn(0.0, 0.7)]),
            Trajectory(0.5, [turn(0.2)] * 3),
            Trajectory(1.0, [turn(0.1)], valid=False),
        ]
    ),
    Group([Trajectory(1.0, [turn(0.9)]), Trajectory(0.0, [turn(-0.9, 0.4)])], step=1),
]


def expected(loss: TurnLoss, wanted: Options) -> float:
    total = 0.0
    for group in WORLD:
        for trajectory in group.trajectories:
            gain = oracle.advantage(group, trajectory, wanted)
            for each in trajectory.turns:
                share = oracle.weight(WORLD, group, trajectory, each, wanted) * each.tokens
                if share:
                    total += share * loss(each, gain)
    return total


def config_of(mode: str):
    wanted = Options(clip_low=LOW, clip_high=HIGH)
    policy_loss = {"loss_mode": mode, "dro_beta": DRO_BETA if mode == "dro" else None}
    return actor_config(wanted, policy_loss=PolicyLossConfig(**policy_loss)), wanted


@pytest.mark.parametrize("mode", LOSSES)
def test_a_loss_is_the_sum_of_its_turns_by_their_weights(mode):
    config, wanted = config_of(mode)
    loss, _ = Batch(to_rows(WORLD), wanted).loss_of(config)
    assert float(loss.detach()) == pytest.approx(expected(LOSSES[mode], wanted), abs=1e-9)


@pytest.mark.parametrize("mode", policy_losses.SUPPORTED)
@pytest.mark.parametrize("ranks", [1, 2])
def test_value_and_gradient_do_not_depend_on_how_rows_are_split(mode, ranks):
    config, wanted = config_of(mode)
    rows = to_rows(WORLD)
    whole = Batch(rows, wanted)
    loss, _ = whole.loss_of(config)
    split = Batch(rows, wanted, dp_size=ranks)
    parts = [[row] for row in range(len(rows.place))]
    shares = [
        split.loss_of(config, tu.index_select_tensor_dict(split.data, part))[0] for part in parts
    ]
    torch.testing.assert_close(sum(shares) / ranks, loss, **EXACT)
    gradient = whole.gradient(loss)
    torch.testing.assert_close(split.gradient(sum(shares)) / ranks, gradient, **EXACT)
    assert gradient.any()


def test_gspos_gradient_is_that_of_its_formula():
    """By differences of the oracle, away from the clip's corners."""
    config, wanted = config_of("gspo")
    batch = Batch(to_rows(WORLD), wanted)
    loss, _ = batch.loss_of(config)
    gradient = batch.gradient(loss)
    step, token = 1e-6, WORLD[0].trajectories[1].turns[0]
    row = batch.rows.place.index((0, 1, 0))
    before = expected(gspo, wanted)
    token.new[0] += step
    slope = (expected(gspo, wanted) - before) / step
    token.new[0] -= step
    assert float(gradient[row, 0]) == pytest.approx(slope, abs=1e-5)
    assert slope != 0


@pytest.mark.parametrize("mode", policy_losses.REFUSED)
def test_what_is_refused_has_no_weighted_form(mode):
    assert mode not in policy_losses.SUPPORTED


# ---- the KL term beyond verl's cap ----


def test_kl_beyond_10_nats_follows_the_formula_in_value_and_gradient():
    """verl's low_var_kl stops at 10 nats, with a gradient of 0."""
    ref, new = -1.0, -13.0  # r - 1 - log r with log r = 12
    far = Turn([new], [new], [ref], [1])
    world = [Group([Trajectory(1.0, [far]), Trajectory(0.0, [Turn([-1.0], [-1.0], [-1.0], [1])])])]
    wanted = Options(beta=0.1)
    batch = Batch(to_rows(world), wanted)
    loss, metrics = batch.loss_of(actor_config(wanted))
    value = oracle.objective(world, wanted)
    assert float(loss.detach()) == pytest.approx(-value.objective, rel=1e-9)
    kl = (math.exp(12) - 1 - 12) / 2
    assert metrics["kl_loss"].aggregate() == pytest.approx(kl, rel=1e-9)
    gradient = batch.gradient(loss)
    row = batch.rows.place.index((0, 0, 0))
    assert float(gradient[row, 0]) == pytest.approx(-value.gradient[0, 0, 0, 0], rel=1e-9)
    assert abs(value.gradient[0, 0, 0, 0]) > 1000, "the token is pulled back"


def test_k3_with_the_gradient_of_k2():
    new = torch.tensor([[-13.0, -1.0]], dtype=torch.float64, requires_grad=True)
    ref = torch.tensor([[-1.0, -1.5]], dtype=torch.float64)
    mask = torch.tensor([[True, True]])
    kl = policy_losses.kl_loss("low_var_kl+", new, ref, mask)
    plain = policy_losses.kl_loss("k3", new, ref, mask)
    torch.testing.assert_close(kl, plain)
    (slope,) = torch.autograd.grad(kl.sum(), new)
    torch.testing.assert_close(slope, (new - ref).detach())
    assert policy_losses.kl_loss("mse", new, ref, mask) is None, "verl's own has no cap"


def test_the_loss_of_a_micro_batch_of_padding_has_a_graph():
    config, wanted = config_of("geo_mean")
    batch = Batch(to_rows(WORLD), wanted)
    for name in ("response_mask", LOSS_WEIGHT):
        batch.data[name] = batch.data[name] * 0
    loss, _ = batch.loss_of(config)
    assert float(loss.detach()) == 0
    assert not batch.gradient(loss).any()
