"""Options in another order: what the model reads changes, what is right does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.rewards import choice
from agentflow_verl.rewards.shuffle import shuffle

METALS = ["A. iron", "B. zinc", "C. lead", "D. tin"]
LISTED = "Which metal?\nA. iron\nB. zinc\nC. lead\nD. tin\nChoose the correct option."


def moved(question: str, options=METALS, seed: int = 0) -> tuple[str, str]:
    return shuffle(question, options, seed, "test/1")


@given(st.integers(), st.sampled_from(["iron", "zinc", "lead", "tin"]))
def test_the_letter_beside_the_right_text_is_right_in_every_order(seed: int, gold: str) -> None:
    text, shown = moved(LISTED, seed=seed)
    for line in text.splitlines()[1:5]:
        letter, _, metal = line.partition(". ")
        assert choice.score_choice(letter, gold, options=METALS, shown=shown).value == float(
            metal == gold
        )
        assert choice.score_choice(line, gold, options=METALS, shown=shown).value == float(
            metal == gold
        )
        assert choice.score_choice(metal, gold, options=METALS, shown=shown).value == float(
            metal == gold
        )


def test_a_letter_beside_the_text_that_it_had_before_is_no_answer() -> None:
    assert choice.score_choice("A. iron", "iron", options=METALS, shown="BACD").value == 0.0
    assert choice.score_choice("B. iron", "iron", options=METALS, shown="BACD").value == 1.0
    assert "names C, not A" in choice.score_choice("D", "iron", options=METALS, shown="BADC").reason


def test_the_order_follows_from_seed_and_question() -> None:
    orders = {shuffle(LISTED, METALS, seed, key)[1] for seed in range(9) for key in ("a", "b")}
    assert moved(LISTED) == moved(LISTED) and len(orders) > 4


@pytest.mark.parametrize(
    "options",
    [METALS, ["iron", "zinc", "lead", "tin"], {"A": "iron", "B": "zinc", "C": "lead", "D": "tin"}],
)
def test_a_question_that_lists_no_options_gets_them(options) -> None:
    text, shown = moved("Which metal?", options)
    assert text.splitlines() == [
        "Which metal?",
        *(f"{letter}. {METALS['ABCD'.index(source)][3:]}" for letter, source in zip("ABCD", shown)),
    ]


def test_lists_in_brackets_and_lists_shown_twice_are_replaced_where_they_stand() -> None:
    text, shown = moved(
        "Which?\n(A) iron\n(B) zinc\n(C) lead\n(D) tin\n\nA) iron\nB) zinc\nC) lead\nD) tin"
    )
    lines = [line for line in text.splitlines() if line]
    names = [METALS["ABCD".index(source)][3:] for source in shown]
    assert lines[1:5] == [f"({letter}) {name}" for letter, name in zip("ABCD", names)]
    assert lines[5:] == [f"{letter}) {name}" for letter, name in zip("ABCD", names)]
    assert text.count("\n\n") == 1


@pytest.mark.parametrize(
    "last",
    [
        "All of the above",
        "Both A and B",
        "A and C",
        "None of these",
        "neither B nor C",
        "(A) and (B)",
        "A, B and C",
        "none of the above",
    ],
)
def test_options_that_speak_of_others_stay_where_they_are(last: str) -> None:
    options = [*METALS[:3], f"D. {last}"]
    question = "Which metal?\n" + "\n".join(options)
    assert moved(question, options) == (question, "ABCD")


@pytest.mark.parametrize(
    "text",
    [
        "A vitamin",
        "Vitamin A",
        "hepatitis A",
        "B cells and T cells",
        "As above-ground roots",
        "above 140 mmHg",
        "Vitamins A and D",
        "both kidneys",
    ],
)
def test_a_letter_or_a_word_in_a_text_does_not_speak_of_options(text: str) -> None:
    options = [*METALS[:3], f"D. {text}"]
    assert {shuffle("Which?", options, seed, "x")[1] for seed in range(9)} != {"ABCD"}


def test_a_listing_that_is_not_recognised_stays_as_it_is() -> None:
    question = "Which metal: iron, zinc, lead or tin?"
    assert moved(question) == (question, "ABCD")


def test_an_order_of_other_options_is_the_rows_fault() -> None:
    with pytest.raises(ConfigError, match="no order of the options ABCD"):
        choice.score_choice("A", "iron", options=METALS, shown="ABC")


@given(
    st.text(st.characters()), st.lists(st.text(st.characters(), min_size=1), min_size=2, max_size=5)
)
def test_no_text_breaks_it(question: str, options: list[str]) -> None:
    text, shown = moved(question, options)
    assert sorted(shown) == sorted(shown.upper()) and len(set(shown)) == len(shown)
