"""Multiple choice: what an answer states, denies, lists or calculates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.rewards import choice

GASES = ["hydrogen", "helium", "lithium", "carbon"]

NAMES_HELIUM = [
    "B\n\nExplanation: hydrogen is lighter.",
    "B\n\nExplanation: hydrogen burns and carbon is solid",
    "B\nReason: lithium is a metal",
    "B.\nhelium",
    "B. helium\n\nThe others are metals or burn.",
    "B\n\nA) is wrong, for it burns.",
    "B. Vitamin C is also needed.",
    "(B)\n\nB",
    "helium, not hydrogen",
    "helium (B)",
    "helium, which is option B",
    "Helium, i.e. option B",
    "B: A and C are wrong",
    "B (A is wrong)",
    "B is correct, A is not",
    "B is correct; C and D are incorrect",
    "B. This rules out A and C.",
    "Based on the above, the answer is B.",
    "According to the table, B",
    "In conclusion, the answer is B",
    "Among the options, B is the best.",
    "Only B",
    "Only B is true",
    "B only",
    "Ans: B",
    "ans: (B)",
    "The ans is B",
    "Correct: B",
    "Select B",
    "Choose B",
    "Definitely B",
    "Most likely B",
    "Ｂ",
]
NAMES_NO_HELIUM = [
    "C\n\nExplanation: helium is lighter.",
    "D\nReason: helium is a gas",
    "C Explanation: helium is light",
    "A\n\nHydrogen is lighter than helium",
    "B\nC",
    "B\n\n(C)",
    "B\nhydrogen",
    "B\nA\nC",
    "B\n\nBecause it is light.\nAnswer: C",
    "B. helium\nC. lithium",
    "A. hydrogen\nB. helium\nC. lithium\nD. carbon",
    "helium is wrong",
    "helium is not correct",
    "helium is not the answer",
    "helium can be ruled out",
    "helium is clearly false",
    "helium is unlikely",
    "helium doesn't fit",
    "helium does not work",
    "It can't be helium",
    "It isn't helium",
    "excluding helium",
    "I would reject helium",
    "other than helium",
    "no helium",
    "without helium",
    "wrong: helium",
    "The wrong answer is helium",
    "B is unlikely",
    "B is eliminated",
    "B is out",
    "B would be incorrect",
    "B was ruled out",
    "B doesn't fit",
    "B. C.",
    "B) C)",
    "B | C",
    "B... C",
    "B as well as C",
    "B along with C",
    "B is correct as well as C",
    "B is correct and so is C",
    "B. C is also correct",
    "B, but C is also correct",
    "B, although C is also correct",
    "B, but it could be C",
    "B, alternatively C",
    "B (alternatively C)",
    "B or none of the above",
    "B or not",
    "B or E",
    "helium (C)",
    "helium (option C)",
    "helium, which is option C",
    "helium or C",
    "helium and C",
]


@pytest.mark.parametrize("answer", NAMES_HELIUM)
def test_a_stated_option_is_named(answer: str) -> None:
    verdict = choice.score_choice(answer, "B", options=GASES)
    assert verdict.value == 1.0, verdict.reason


@pytest.mark.parametrize("answer", NAMES_NO_HELIUM)
def test_a_denied_option_or_one_of_several_is_not_named(answer: str) -> None:
    verdict = choice.score_choice(answer, "B", options=GASES)
    assert verdict.value == 0.0, verdict.reason


LENGTHS = ["5 m", "10 m", "15 m", "20 m"]
NUMBERS = ["14", "16", "18", "20"]
SIGNED = ["-5", "3", "7", "9"]
HALVES = [r"$-\frac{1}{2}$", r"$\frac{1}{2}$", "$2$", "$-2$"]
ENERGIES = ["10^-4 eV", "10^-8 eV", "10^-9 eV", "10^-11 eV"]
ORDERS = ["p > q", "p < q", "p = q", "p ≠ q"]
CHANGES = ["increase", "decrease", "no change", "cannot be determined"]


@pytest.mark.parametrize(
    ("options", "gold", "answer"),
    [
        (LENGTHS, "A", "5 m"),
        (LENGTHS, "A", "A - 5 m"),
        (LENGTHS, "B", "about 10 m"),
        (NUMBERS, "B", "x = 16"),
        (NUMBERS, "B", "16."),
        (["1,000", "2,000"], "A", "1000"),
        (["1, 2", "1, 2, 3"], "A", "1,2"),
        (SIGNED, "A", "−5"),
        (SIGNED, "A", "x=-5"),
        (SIGNED, "A", "x = - 5"),
        (SIGNED, "A", "A. -5"),
        (HALVES, "A", r"$-\frac{1}{2}$"),
        (HALVES, "A", "-1/2"),
        (HALVES, "B", r"\frac12"),
        (HALVES, "C", "$2$"),
        (HALVES, "D", "D. $-2$"),
        (ENERGIES, "D", "$10^{-11}$ eV"),
        (ORDERS, "B", "$p < q$"),
        (CHANGES, "A", "It will increase"),
        (CHANGES, "C", "There is no change"),
        (CHANGES, "D", "D. cannot be determined"),
        (CHANGES, "D", "It cannot be determined"),
        (["Vitamin A", "Vitamin C"], "A", "vitamin A deficiency"),
    ],
)
def test_an_options_number_or_relation_is_named(options: list[str], gold: str, answer: str) -> None:
    verdict = choice.score_choice(answer, gold, options=options)
    assert verdict.value == 1.0, verdict.reason


@pytest.mark.parametrize(
    ("options", "gold", "answer"),
    [
        (LENGTHS, "A", "2.5 m"),
        (LENGTHS, "A", ".5 m"),
        (LENGTHS, "A", "-5 m"),
        (LENGTHS, "A", "5 m/s"),
        (NUMBERS, "B", "2.16"),
        (NUMBERS, "B", "1/16"),
        (NUMBERS, "B", r"$\frac{1}{16}$"),
        (NUMBERS, "B", "16.5"),
        (NUMBERS, "B", "-16"),
        (NUMBERS, "B", "16%"),
        (NUMBERS, "B", "√16"),
        (NUMBERS, "B", r"\sqrt{16}"),
        (NUMBERS, "B", "16^2"),
        (NUMBERS, "B", "3*16"),
        (NUMBERS, "B", "1 / 16"),
        (NUMBERS, "B", "16 - 2"),
        (NUMBERS, "C", "18-2"),
        (NUMBERS, "B", "16 or 17"),
        (NUMBERS, "B", "between 15 and 16"),
        (SIGNED, "A", "5"),
        (HALVES, "A", r"$\frac{1}{2}$"),
        (HALVES, "B", r"$-\frac{1}{2}$"),
        (HALVES, "C", "$-2$"),
        (ENERGIES, "D", "10^11 eV"),
        (ORDERS, "A", "p < q"),
        (ORDERS, "A", "p ≥ q"),
        (CHANGES, "A", "It won't increase"),
        (CHANGES, "A", "will not increase"),
        (CHANGES, "A", "no increase"),
        (["Vitamin A", "Vitamin B", "Vitamin C"], "A", "Vitamin A or C"),
    ],
)
def test_another_number_or_relation_names_no_option(
    options: list[str], gold: str, answer: str
) -> None:
    verdict = choice.score_choice(answer, gold, options=options)
    assert verdict.value == 0.0, verdict.reason


@pytest.mark.parametrize("answer", ["B", "(B)", "Paris", "B. Paris"])
@pytest.mark.parametrize("gold", ["B. Paris", "B) Paris"])
def test_a_labelled_gold_answer_without_options_is_its_letter_and_its_text(
    gold: str, answer: str
) -> None:
    assert choice.score_choice(answer, gold).value == 1.0
    assert choice.score_choice("C", gold).value == 0.0
    assert choice.score_choice("B or C", gold).value == 0.0


@given(st.integers(-99, 99), st.integers(-99, 99))
def test_a_number_names_no_other_number(one: int, other: int) -> None:
    options = [f"{one} m", f"{other} m", "100 m"]
    if one != other:
        assert choice.score_choice(f"{one} m", "A", options=options).value == 1.0
        assert choice.score_choice(f"x = {other} m", "A", options=options).value == 0.0
    assert choice.score_choice(f"{one}.5 m", "A", options=options).value == 0.0
