"""The standard figures of short answers, as SQuAD's own script computes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.rewards.qa.squad import squad_exact_match, squad_f1


@pytest.mark.parametrize(
    ("answer", "golds", "em", "f1"),
    [
        ("The Paris!", ["paris"], 1.0, 1.0),
        ("Paris", ["London", "Paris"], 1.0, 1.0),
        ("in Paris", ["Paris"], 0.0, 2 / 3),
        ("Paris France", ["France", "Paris, Texas"], 0.0, 2 / 3),
        ("two", ["2"], 0.0, 0.0),
        ("yes", ["no"], 0.0, 0.0),
        ("yes it is", ["yes"], 0.0, 0.0),
        ("", ["Paris"], 0.0, 0.0),
        ("a", ["The"], 0.0, 0.0),
        ("?", ["?"], 1.0, 1.0),
    ],
)
def test_known_values(answer: str, golds: list[str], em: float, f1: float) -> None:
    assert squad_exact_match(answer, golds) == em
    assert squad_f1(answer, golds) == pytest.approx(f1)


@given(st.text(), st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_an_exact_match_has_the_highest_f1(answer: str, golds: list[str]) -> None:
    f1 = squad_f1(answer, golds)
    assert 0.0 <= squad_exact_match(answer, golds) <= f1 <= 1.0
