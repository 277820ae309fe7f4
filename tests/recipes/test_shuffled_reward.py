"""The control's rewards: of other trajectories in training, true in validation."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

CONTROL = Path(__file__).parents[2] / "recipes" / "quickstart" / "shuffled_reward.py"


@pytest.fixture
def control():
    """The file as verl loads it, with nothing drawn from yet."""
    spec = importlib.util.spec_from_file_location("control", CONTROL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reward(control, answer: str, **extra) -> float:
    return control.compute_score("reasoning_gym/gcd", answer, "4", extra or None)["score"]


def test_a_trajectory_never_gets_its_own_reward(control):
    """One is right among many that are wrong: it gets another's, and some other gets its."""
    for _ in range(20):
        assert reward(control, "5", split="train") == 0.0
    assert reward(control, "4", split="train") == 0.0
    later = [reward(control, "5", split="train") for _ in range(400)]
    assert 0.0 < sum(later) < 40


def test_the_first_one_gets_what_says_nothing(control):
    assert reward(control, "4") == 0.0


@pytest.mark.parametrize("split", ["val", "test"])
def test_validation_keeps_the_true_reward(control, split):
    assert reward(control, "4", split=split) == 1.0
    assert reward(control, "5", split=split) == 0.0
