"""Yes or no: which verdict a short answer opens with."""

from __future__ import annotations

import pytest

from agentflow_verl.rewards.qa import match as qa


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("Yes.", "yes"),
        ("Yes. There is no difference.", "yes"),
        ("Yes, they have no bananas", "yes"),
        ("Yes, no doubt", "yes"),
        ("Yes, there are no differences", "yes"),
        ("Yes - both", "yes"),
        ("yes (both)", "yes"),
        ("Yes: both are", "yes"),
        ("No (only one is)", "no"),
        ("No there are two", "no"),
        ("No. He is British", "no"),
        ("No, Yes Prime Minister is British", "no"),
        ("No, no, they are not", "no"),
        ("No, not both", "no"),
    ],
)
def test_the_opening_verdict_counts(answer: str, gold: str) -> None:
    assert qa.score_short_answer(answer, gold).lenient == 1.0


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("no-one", "no"),
        ("No-one knows", "no"),
        ("No. 5", "no"),
        ("No.1", "no"),
        ("No: 5", "no"),
        ("Yes-Man", "yes"),
        ("No Country for Old Men", "no"),
        ("None", "no"),
        ("Yes, no", "no"),
        ("no (yes)", "no"),
        ("yes/no", "yes"),
        ("yes-no", "yes"),
        ("Yes. Actually no", "yes"),
        ("Yes, but no.", "yes"),
        ("Yes, but actually not", "yes"),
        ("Yes... well, no they are not", "yes"),
        ("Yes, maybe", "yes"),
        ("No, I cannot determine that", "no"),
        ("No there are two", "yes"),
        ("Yes. There is no difference.", "no"),
    ],
)
def test_no_verdict_or_two_are_wrong(answer: str, gold: str) -> None:
    assert qa.score_short_answer(answer, gold).lenient == 0.0
