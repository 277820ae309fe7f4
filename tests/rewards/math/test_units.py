"""Words behind a number: units, scales, parts, remarks, and the per cent sign."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.rewards.math import equality as maths

PERCENT = "What percent of the students passed?"

SAME = [
    ("$18 per day", "18"),
    ("$18/day", "$18 per day"),
    ("five dollars", "$5"),
    ("fifty percent", "50%"),
    ("twenty-one cats", "21"),
    ("three hours", "3 hours"),
    ("5 N", "5 newtons"),
    ("8 oz", "8 ounces"),
    ("25 degrees Celsius", r"25^\circ\text{C}"),
    ("18USD", "$18"),
    ("3 fifths", "3/5"),
    ("3 halves", "1.5"),
    ("2 dozen", "24"),
    ("2 dozen eggs", "24"),
    ("5 thousands", "5000"),
    ("2 lakh", "200000"),
    ("1.5 bn", "1500000000"),
    ("5 wrong answers", "5"),
    ("5 negative integers", "5"),
    ("18 seconds", "18"),
]
DIFFERENT = [
    ("$18 per day", "$18 per hour"),
    ("five euros", "$5"),
    ("five wrong", "5"),
    ("two thirds", "2"),
    ("5 N", "5 joules"),
    ("25 degrees Celsius", r"25^\circ\text{F}"),
    ("8 oz", "8 lb"),
    ("fifty percent", "5"),
]
NO_UNITS = (
    "millions thousands hundreds dozen lakh crore bn fifths halves hundredths tens"
    " wrong incorrect false impossible negative unlikely below maybe halved doubled inverse"
).split()


@pytest.mark.parametrize(("answer", "gold"), SAME)
def test_a_unit_or_a_scale_is_read(answer: str, gold: str) -> None:
    verdict = maths.score_math(answer, gold)
    assert verdict.value == 1.0, verdict.reason


@pytest.mark.parametrize(("answer", "gold"), DIFFERENT)
def test_another_unit_is_wrong(answer: str, gold: str) -> None:
    assert maths.score_math(answer, gold).value == 0.0


@pytest.mark.parametrize("word", NO_UNITS)
def test_a_word_that_changes_the_number_is_no_unit(word: str) -> None:
    assert maths.score_math(f"18 {word}", "18").value == 0.0


@pytest.mark.parametrize("answer", ["3", "3 dozen", "three dozen"])
def test_a_scale_that_the_question_counts_in_is_a_unit(answer: str) -> None:
    asked = "How many dozen eggs does she sell?"
    assert maths.score_math(answer, "3", question=asked).value == 1.0
    if "dozen" in answer:
        assert maths.score_math(answer, "3", question="How many eggs?").value == 0.0
        assert maths.score_math(answer, "36", question="How many eggs?").value == 1.0


@pytest.mark.parametrize(
    ("answer", "gold", "question"),
    [
        ("12.5%", "12.5", PERCENT),
        ("37.5", r"37.5\%", PERCENT),
        (r"12\frac12\%", "12.5", PERCENT),
        ("62.5 percent", "62.5", "What is the percentage?"),
        ("12.5%", "12.5", "Express the share as a percent."),
        ("0.5", "50%", PERCENT),
        ("20%", "20", "The price falls by 20% and then again. How much is it in all?"),
        ("50%", "50", ""),
        ("50%", "0.5", "How likely is it?"),
    ],
)
def test_a_question_for_a_percentage_needs_no_sign(answer: str, gold: str, question: str) -> None:
    verdict = maths.score_math(answer, gold, question=question)
    assert verdict.value == 1.0, verdict.reason


@pytest.mark.parametrize(
    ("answer", "gold", "question"),
    [
        ("1%", "1", "How many cats are there?"),
        ("12.5%", "12.5", ""),
        ("13%", "12.5", PERCENT),
        ("0.5%", "50", PERCENT),
    ],
)
def test_a_percentage_is_no_plain_number(answer: str, gold: str, question: str) -> None:
    assert maths.score_math(answer, gold, question=question).value == 0.0


@given(st.integers(1, 99), st.integers(2, 99))
def test_a_count_of_dozens_is_no_count_of_pieces(count: int, factor: int) -> None:
    assert maths.score_math(f"{count} dozen", str(12 * count)).value == 1.0
    assert maths.score_math(f"{count} dozen", str(count)).value == 0.0
    assert maths.score_math(f"{count} cats", str(factor * count)).value == 0.0
