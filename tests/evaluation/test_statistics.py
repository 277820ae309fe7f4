"""Intervals that cover, p-values that are exact where that can be counted."""

from __future__ import annotations

import itertools
import math
import random
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow_verl.evaluation.statistics import Interval, accuracy, average, difference, holm

MEANS = st.lists(st.integers(0, 3).map(lambda right: right / 3), min_size=1, max_size=60)


@given(MEANS)
def test_an_interval_holds_its_mean_and_stays_in_bounds(means):
    found = accuracy(means, 3 * len(means))
    assert 0.0 <= found.low <= found.mean <= found.high <= 1.0
    assert found.mean == pytest.approx(fmean(means))
    assert found.low < found.high


def test_all_right_is_not_certainty():
    assert accuracy([1.0] * 30, 30).low == pytest.approx(0.8865, abs=1e-4)  # Wilson's for 30 of 30
    assert accuracy([0.0] * 30, 30).high == pytest.approx(0.1135, abs=1e-4)


def test_one_trial_is_wilsons_interval_for_one_question_less():
    """The effective size of n single trials is n - 1, the price of estimating the variance."""
    size, mean, z = 99, 0.3, 1.959964
    middle = (mean + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * math.sqrt(mean * (1 - mean) / size + z * z / (4 * size * size))
    found = accuracy([1.0] * 30 + [0.0] * 70, 100)
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half), abs=1e-6)


def test_trials_that_agree_add_nothing_and_trials_that_do_not_narrow_it():
    agree = accuracy([1.0] * 15 + [0.0] * 15, 90)
    differ = accuracy([2 / 3] * 15 + [1 / 3] * 15, 90)
    assert differ.high - differ.low < agree.high - agree.low


def test_four_questions_that_happen_to_agree_are_no_more_than_their_trajectories():
    few = accuracy([0.5, 0.5, 0.5, 0.0], 8)
    assert few.high - few.low == pytest.approx(
        accuracy([1.0] * 3 + [0.0] * 5, 8).high - accuracy([1.0] * 3 + [0.0] * 5, 8).low, rel=0.1
    )


def test_nineteen_of_twenty_intervals_cover():
    chance = random.Random(1)
    for hard, easy in ((0.02, 0.2), (0.3, 0.8)):
        rates = [hard, easy] * 20
        covered = 0
        for _ in range(1000):
            asked = [chance.choice(rates) for _ in range(40)]
            found = accuracy(
                [fmean(chance.random() < rate for _ in range(3)) for rate in asked], 120
            )
            covered += found.low <= (hard + easy) / 2 <= found.high
        assert 920 <= covered <= 985


def test_a_groups_interval_is_as_wide_as_its_parts_say():
    one = Interval(0.5, 0.4, 0.6)
    assert average([one]).low == pytest.approx(0.4)
    four = average([one] * 4)
    assert (four.mean, four.low, four.high) == pytest.approx((0.5, 0.45, 0.55))


def test_the_p_value_is_that_of_all_sign_flips():
    values = [1.0, 1.0, 1.0, -1.0, 1.0, 0.0, 1.0, 1.0]
    observed = abs(fmean(values))
    flips = [
        abs(fmean(sign * value for sign, value in zip(signs, values)))
        for signs in itertools.product((-1, 1), repeat=len(values))
    ]
    exact = fmean(flip >= observed - 1e-12 for flip in flips)
    found = difference([values])
    assert found.p == pytest.approx(exact, abs=0.01)
    assert found.mean == observed and found.low < found.mean < found.high


def test_no_difference_is_no_finding():
    found = difference([[0.0] * 20, [0.0] * 5])
    assert (found.mean, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_benchmarks_weigh_alike_whatever_their_size():
    assert difference([[1.0] * 2, [0.0] * 200]).mean == 0.5


def test_the_same_seed_gives_the_same_figures():
    values = [random.Random(3).choice((-1.0, 0.0, 1.0)) for _ in range(30)]
    assert difference([values], seed=5) == difference([values], seed=5)


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values):
    adjusted = holm(p_values)
    assert all(p <= q <= 1.0 for p, q in zip(p_values, adjusted))
    assert all(
        a <= b for (p, a), (q, b) in itertools.product(zip(p_values, adjusted), repeat=2) if p < q
    )


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
