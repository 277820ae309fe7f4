"""Multiple choice: letters, texts, and answers that name both or several."""

from __future__ import annotations

import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.rewards import choice
from agentflow_verl.rewards.option_texts import comparable_text

OPTIONS = ["Hemolytic uremic syndrome", "Oral ulcers", "Colorectal cancer", "Pancreatic cancer"]
LABELLED = [f"{letter}. {text}" for letter, text in zip("ABCD", OPTIONS, strict=True)]

NAMES_C = [
    "C",
    "c",
    "C.",
    "(C)",
    "[C]",
    "**C**",
    "$C$",
    "\\text{C}",
    "\\textbf{(C)}",
    "Option C",
    "option (c)",
    "Answer: C",
    "The answer is C.",
    "C. Colorectal cancer",
    "C) Colorectal cancer",
    "(C) colorectal cancer",
    "C: Colorectal cancer",
    "C. colorectal cancer, most likely",
    "Colorectal cancer",
    "colorectal cancer.",
    "COLORECTAL  CANCER",
    "“Colorectal cancer”",
    "Colorectal-cancer",
    "It is most likely colorectal cancer",
    "The correct answer is (C) because ulcerative colitis predisposes",
    "\\boxed{C}",
    "The correct option is C. Colorectal cancer",
    "C. It is a tumour",
    "c) colorectal cancer",
    "(C)",
    "C)",
]

NAMES_NOT_C = [
    "",
    " ",
    "A",
    "(B)",
    "D. Pancreatic cancer",
    "E",
    "cancer",
    "A or C",
    "A and C",
    "(A), (C)",
    "C and D",
    "(C) or (D)",
    "C, D",
    "A. Colorectal cancer",
    "C. Oral ulcers",
    "Oral ulcers",
    "Colorectal cancer or pancreatic cancer",
    "all of the above",
    "none",
    "Colorectal",
    "A patient with colitis",
    "I do not know",
    "ABCD",
    "CC",
    "C3",
    "Colorectal cancers",
    "3",
    "the third one",
    "?",
    "Colorectal cancer, oral ulcers, pancreatic cancer",
]


@pytest.mark.parametrize(
    "options",
    [OPTIONS, LABELLED, dict(zip("ABCD", OPTIONS, strict=True))],
    ids=["texts", "labelled", "dict"],
)
@pytest.mark.parametrize("gold", ["Colorectal cancer", "C", "C. Colorectal cancer", "c"])
def test_gold_and_options_come_in_every_form(options, gold: str) -> None:
    assert choice.score_choice("(C)", gold, options=options).value == 1.0
    assert choice.score_choice("Colorectal cancer", gold, options=options).value == 1.0
    assert choice.score_choice("D", gold, options=options).value == 0.0


@pytest.mark.parametrize("answer", NAMES_C)
def test_naming_the_gold_option_is_right(answer: str) -> None:
    assert choice.score_choice(answer, "C", options=OPTIONS).value == 1.0, choice.score_choice(
        answer, "C", options=OPTIONS
    ).reason


@pytest.mark.parametrize("answer", NAMES_NOT_C)
def test_naming_another_or_none_or_several_is_wrong(answer: str) -> None:
    assert choice.score_choice(answer, "C", options=OPTIONS).value == 0.0, choice.score_choice(
        answer, "C", options=OPTIONS
    ).reason


def test_an_option_within_a_longer_option_is_told_apart() -> None:
    options = ["Amoxicillin", "Amoxicillin-clavulanic acid", "IL-4", "16"]
    assert choice.score_choice("amoxicillin clavulanic acid", "B", options=options).value == 1.0
    assert (
        choice.score_choice("give amoxicillin-clavulanic acid now", "B", options=options).value
        == 1.0
    )
    assert (
        choice.score_choice("give amoxicillin-clavulanic acid now", "A", options=options).value
        == 0.0
    )
    assert choice.score_choice("Amoxicillin", "A", options=options).value == 1.0
    assert choice.score_choice("16", "D", options=options).value == 1.0


def test_options_of_signs_only_are_told_apart() -> None:
    options = ["↓ ↓ ↓", "↑ ↓ normal", "↓ ↑ ↑", "↓ ↑ ↓"]
    assert choice.score_choice("↓ ↑ ↓", "↓ ↑ ↓", options=options).value == 1.0
    assert choice.score_choice("↓ ↑ ↑", "↓ ↑ ↓", options=options).value == 0.0
    assert choice.score_choice("20%", "20%", options=["15%", "20%"]).value == 1.0
    assert choice.score_choice("-2", "2", options=["-2", "2"]).value == 0.0


def test_text_that_names_letters_is_still_the_option() -> None:
    options = ["Vitamin D", "Vitamin A or B", "X", "C"]
    assert choice.score_choice("B. Vitamin A or B", "B", options=options).value == 1.0
    assert choice.score_choice("X", "X", options=options).value == 1.0


def test_without_options_letters_and_equal_texts_match() -> None:
    assert (
        choice.score_choice("(B)", "B").value
        == choice.score_choice("B. Paris", "b").value
        == choice.score_choice("paris.", "Paris").value
        == 1.0
    )
    assert (
        choice.score_choice("A", "B").value
        == choice.score_choice("London", "Paris").value
        == choice.score_choice("B", "Paris").value
        == 0.0
    )


def test_a_gold_answer_that_is_no_option_is_the_rows_fault() -> None:
    with pytest.raises(ConfigError, match="none, or more than one"):
        choice.score_choice("A", "Gastritis", options=OPTIONS)
    with pytest.raises(ConfigError, match="at most 26"):
        choice.score_choice("A", "A", options=[str(number) for number in range(100, 130)])


@given(st.text(st.characters()))
def test_no_text_breaks_the_scorer(text: str) -> None:
    assert choice.score_choice(text, "C", options=OPTIONS).value in (0.0, 1.0)
    assert choice.score_choice(text, "Paris").value in (0.0, 1.0)


@given(
    st.lists(
        st.text("abcXYZ 12↑%", min_size=2, max_size=8).filter(lambda text: len(text.strip()) > 1),
        min_size=2,
        max_size=6,
    )
)
def test_each_option_names_only_itself(options: list[str]) -> None:
    assume(len({comparable_text(option) for option in options}) == len(options))
    for index, option in enumerate(options):
        letter = "ABCDEF"[index]
        assert choice.score_choice(option, letter, options=options).value == 1.0
        other = "ABCDEF"[(index + 1) % len(options)]
        assert choice.score_choice(option, other, options=options).value == 0.0


@pytest.mark.parametrize("piece", ["C", "(", "**", " ", "{", "A. ", "\ud800", "or "])
@pytest.mark.parametrize("length", [1_990, 1_000_000])
def test_long_answers_take_less_than_a_second(piece: str, length: int) -> None:
    start = time.process_time()
    choice.score_choice(piece * (length // len(piece)), "C", options=OPTIONS)
    assert time.process_time() - start < 1.0
