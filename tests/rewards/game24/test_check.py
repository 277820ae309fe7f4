"""The 24-game: the checker against hand-written cases and against a brute-force judge written apart
from it.
"""

from __future__ import annotations

import random
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.rewards.game24 import arithmetic
from agentflow_verl.rewards.game24 import check as game24
from tests.rewards.game24.judge24 import SIGNS, brute_force, mutate

RIGHT = [
    ((1, 1, 1, 8), "(1+1+1)×8"),
    ((1, 1, 1, 8), "(1+1+1)*8 = 24"),
    ((1, 1, 1, 8), "24 = 8*(1+1+1)"),
    ((1, 1, 1, 8), "8(1+1+1)"),
    ((1, 1, 1, 8), "(1 + 1 + 1) x 8"),
    ((1, 1, 1, 8), "$(1+1+1) \\times 8 = 24$"),
    ((1, 1, 1, 8), "\\[(1+1+1)\\cdot 8\\]"),
    ((1, 1, 1, 8), "**(1+1+1)*8**"),
    ((1, 1, 1, 8), "`(1+1+1)*8`"),
    ((1, 1, 1, 8), "One solution is (1+1+1)×8."),
    ((1, 1, 1, 8), "\\left(1+1+1\\right)8"),
    ((1, 1, 1, 8), "[1+1+1]*8"),
    ((1, 1, 1, 8), "(1+1+1)*8 = 3*8 = 24"),
    ((1, 1, 1, 8), "((((1))+1+1))*8"),
    ((1, 1, 1, 8), "Expression: (1+1+1)*8 = 24!"),
    ((3, 3, 8, 8), "8/(3-8/3)"),
    ((3, 3, 8, 8), "8÷(3−8÷3)"),
    ((3, 3, 8, 8), "\\frac{8}{3-\\frac{8}{3}}"),
    ((3, 3, 8, 8), "\\dfrac{8}{3-\\tfrac{8}{3}} = 24"),
    ((1, 5, 5, 5), "5*(5-1/5)"),
    ((1, 11, 11, 5), "(11×11-1)/5"),
    ((1, 7, 9, 9), "9+9+7-1"),
    ((1, 7, 9, 9), "-1+7+9+9"),
    ((1, 7, 9, 9), "9–1+7+9"),
    ((4, 4, 10, 10), "(10*10-4)/4"),
    ((2, 7, 8, 9), "2*(7+9)-8"),
    ((1, 2, 12, 12), "12+12*(2-1)"),
    ((6, 6, 6, 6), "6+6+6+6"),
    ((24, 1, 1, 1), "24*1*1*1"),
    ((24, 1, 1, 1), "24 = 24*1*1*1"),
    ((1, 3, 4, 6), "6/(1-3/4)"),
    ((2, 3, 4, 1), "1*2*3*4"),
    ((0, 0, 4, 6), "4*6+0*0"),
]

WRONG = [
    ((1, 1, 1, 8), ""),
    ((1, 1, 1, 8), "24"),
    ((1, 1, 1, 8), "8*3"),
    ((1, 1, 1, 8), "(1+1)*8+8"),
    ((1, 1, 1, 8), "(1+1+1+1)*8-8"),
    ((1, 1, 1, 8), "(1+1+1)*8*1"),
    ((1, 1, 1, 8), "(1+1+1)+8"),
    ((1, 1, 1, 8), "(1+1+1)*8 = 25"),
    ((1, 1, 1, 8), "(1+1+1)*8+1-1"),
    ((1, 1, 1, 8), "(1+1+1*8"),
    ((1, 1, 1, 8), "1+1+1)*8"),
    ((1, 1, 1, 8), "(1+1+1)**8"),
    ((1, 1, 1, 8), "(1+1+1)^8"),
    ((2, 4, 1, 1), "4!*(2-1*1)"),
    ((1, 1, 1, 8), "3*8*1^1"),
    ((3, 8), "8*3^1"),
    ((1, 1, 4, 2), "24*1*1"),
    ((1, 2, 4, 5), "(12-4)*... "),
    ((1, 1, 1, 8), "__import__('os').getpid()"),
    ((1, 1, 1, 8), "(1+1+1)*8 or (1+1)*1*8"),
    ((1, 1, 1, 8), "no solution"),
    ((0, 1, 2, 12), "12*2+0/0+1"),
    ((0, 1, 12, 2), "2*12/(1-1+0)"),
    ((1, 1, 1, 8), "1 1 1 8"),
    ((1, 1, 1, 8), "(1+1+1)*"),
    ((3, 8), "8*3%5"),
    ((1, 1, 1, 8), "(1+1+1)*8x"),
    ((12, 12), "(1+1)*12"),
    ((12, 2), "12²"),
    ((2, 12), "(2)**12"),
    ((4, 6), "√16*6"),
    ((1, 1, 1, 8), "((1+1+1)*8"),
    ((3, 8), "3//8*64"),
    ((1, 1, 1, 8), "1+1+1*8, then 3*8"),
    ((2, 12), "1_2*2"),
]


@pytest.mark.parametrize(("numbers", "answer"), RIGHT)
def test_a_solution_in_any_writing_is_right(numbers, answer: str) -> None:
    score = game24.score_expression(answer, {"numbers": list(numbers), "target": 24})
    assert score.value == 1.0, score.reason


@pytest.mark.parametrize(("numbers", "answer"), WRONG)
def test_anything_else_is_wrong(numbers, answer: str) -> None:
    score = game24.score_expression(answer, {"numbers": list(numbers), "target": 24})
    assert score.value == 0.0, score.reason


def test_the_numbers_come_from_the_row_or_the_question() -> None:
    text = (
        "Using the numbers [1, 1, 1, 8], make 24. Example: for [1, 2, 3, 4], one solution is"
        " (1+2+3)×4."
    )
    assert game24.score_expression("(1+1+1)*8", "", question=text).value == 1.0
    assert game24.score_expression("(1+2+3)*4", "", question=text).value == 0.0
    assert game24.score_expression("(1+1+1)*8", ["whatever"], question=[1, 1, 1, 8]).value == 1.0
    assert game24.score_expression("(1+1+1)*8", "", question="1 1 1 8").value == 1.0
    assert game24.score_expression("8*(1+1+1)", ["(1+1+1)×8"]).value == 1.0
    assert game24.score_expression("8*3", ["(1+1+1)×8"]).value == 0.0
    with pytest.raises(ConfigError, match="needs its numbers"):
        game24.score_expression("(1+1+1)*8", "24", question="Make 24.")
    with pytest.raises(ConfigError, match="plain numbers"):
        game24.score_expression("(1+1+1)*8", {"numbers": ["a"]})


def test_countdown_has_its_own_target_and_may_leave_numbers_out() -> None:
    row = {"numbers": [19, 36, 55, 7], "target": 65}
    assert game24.score_expression("55 + 36 - 7 - 19", row).value == 1.0
    assert (
        game24.score_expression("55+36-19", {"numbers": [19, 36, 55, 7], "target": 72}).value == 0.0
    )
    assert (
        game24.score_expression(
            "55+36-19", {"numbers": [19, 36, 55, 7], "target": 72, "allow_subset": True}
        ).value
        == 1.0
    )
    assert (
        game24.score_expression(
            "55+55-38", {"numbers": [19, 36, 55, 7], "target": 72, "allow_subset": True}
        ).value
        == 0.0
    )
    assert (
        game24.score_expression(
            "55+36-7-19",
            "",
            question="Using the numbers [19, 36, 55, 7], create an equation that equals 65.",
        ).value
        == 1.0
    )


NUMBERS = st.lists(st.integers(1, 13), min_size=4, max_size=4)


@st.composite
def expressions(draw, numbers):
    """A random tree over the numbers: its text, and its value computed on the tree, never from the
    text.
    """
    nodes = [(str(number), Fraction(number)) for number in draw(st.permutations(numbers))]
    while len(nodes) > 1:
        index = draw(st.integers(0, len(nodes) - 2))
        (left, a), (right, b) = nodes[index : index + 2]
        sign = draw(st.sampled_from("+-*/"))
        value = None if a is None or b is None or (sign == "/" and b == 0) else SIGNS[sign](a, b)
        nodes[index : index + 2] = [(f"({left}{sign}{right})", value)]
    return nodes[0]


@given(NUMBERS.flatmap(lambda numbers: st.tuples(st.just(numbers), expressions(numbers))))
def test_the_value_is_the_trees(case) -> None:
    numbers, (text, value) = case
    used, wanted = arithmetic.evaluate(text), sorted(numbers)
    assert (used[0], sorted(used[1])) == (value, wanted)
    target = 24 if value is None else value
    assert game24.score_expression(text, {"numbers": numbers, "target": target}).value == float(
        value is not None
    )


SEEDS = [
    ((3, 3, 8, 8), "8/(3-8/3)"),
    ((1, 1, 1, 8), "(1+1+1)×8"),
    ((1, 4, 5, 6), "4/(1-5/6)"),
    ((1, 7, 9, 9), "9+9+7-1"),
    ((6, 6, 6, 6), "6+6+6+6"),
]


@given(st.sampled_from(SEEDS), st.integers(0, 2**32), st.integers(1, 3))
def test_a_mutated_solution_is_judged_as_the_brute_force_judges_it(
    seed, random_seed: int, times: int
) -> None:
    numbers, text = seed
    chance = random.Random(random_seed)
    for _ in range(times):
        text = mutate(text, chance)
    assert game24.score_expression(text, {"numbers": list(numbers)}).value == float(
        brute_force(text, list(numbers), 24)
    )


@given(st.text(st.characters()))
def test_no_text_breaks_the_scorer(text: str) -> None:
    assert game24.score_expression(text, {"numbers": [1, 1, 1, 8]}).value in (0.0, 1.0)
    try:
        game24.score_expression("8*(1+1+1)", text, question=text)
    except ConfigError:
        pass


@given(
    st.lists(
        st.sampled_from(list("0189+-*/()= .x") + ["\\frac", "{", "}", "×", "\\times "]), max_size=40
    ).map("".join)
)
def test_no_expression_breaks_the_scorer(text: str) -> None:
    assert game24.score_expression(text, {"numbers": [1, 1, 1, 8]}).value in (0.0, 1.0)


@pytest.mark.parametrize("piece", ["(", "-", "1+", "9", "\\frac{", "=", " ", "x", "\ud800", "1 "])
@pytest.mark.parametrize("length", [1_990, 1_000_000])
def test_long_answers_take_less_than_a_second(piece: str, length: int) -> None:
    start = time.process_time()
    assert (
        game24.score_expression(piece * (length // len(piece)), {"numbers": [1, 1, 1, 8]}).value
        == 0.0
    )
    assert time.process_time() - start < 1.0
