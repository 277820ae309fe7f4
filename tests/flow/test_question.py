"""One reading of a dataset row, in all the forms that people have."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.flow.question import (
    DatasetRow,
    has_answer,
    parse_prompt,
    parse_row,
    without_numpy,
)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def refusal(prompt: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        parse_prompt(prompt)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    "prompt",
    [
        "What is 1+1?",
        [user("What is 1+1?")],
        (user("What is 1+1?"),),
        np.array([user("What is 1+1?")], dtype=object),
        np.str_("What is 1+1?"),
        [user("  What is 1+1?\n")],
        [user([{"type": "text", "text": "What is 1+1?"}])],
        [user(np.array([{"type": "text", "text": "What is 1+1?"}], dtype=object))],
        [user([{"type": "text", "text": "What is 1+1?", "image": None}])],
        [user(["What is 1+1?"])],
        [user({"type": "text", "text": "What is 1+1?"})],
    ],
)
def test_a_question_alone_is_shown_as_it_is(prompt):
    assert parse_prompt(prompt).prompt_text == "What is 1+1?"


def test_parts_of_text_are_put_together_a_line_each():
    parts = [{"type": "text", "text": "Read this."}, {"type": "text", "text": "What is it?"}]
    assert parse_prompt([user(parts)]).text == "Read this.\nWhat is it?"


def test_a_system_message_and_earlier_turns_stand_before_the_question():
    question = parse_prompt(
        [
            {"role": "system", "content": "Answer with a number."},
            user("I have 3 apples."),
            {"role": "assistant", "content": "Noted."},
            user("How many are left after I eat one?"),
        ]
    )
    assert question.text == "How many are left after I eat one?"
    assert question.prompt_text == (
        "Instructions: Answer with a number.\n\n"
        "Earlier conversation:\nUser: I have 3 apples.\nAssistant: Noted.\n\n"
        "How many are left after I eat one?"
    )


def test_a_developer_message_is_a_system_message():
    prompt = [{"role": "developer", "content": "Be brief."}, user("Why?")]
    assert parse_prompt(prompt).instructions == "Be brief."


def test_an_assistants_call_without_text_is_left_out():
    prompt = [user("Look it up."), {"role": "assistant", "content": None}, user("Well?")]
    assert [message.role for message in parse_prompt(prompt).earlier] == ["user"]


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        (None, "prompt is null"),
        (3, "prompt is int 3"),
        ("  ", "prompt is empty"),
        ([], "no user message"),
        ([{"role": "system", "content": "Be brief."}], "no user message"),
        ([user("")], "no text in its last user message"),
        ([user(" \n")], "no text in its last user message"),
        ([user(None)], "no text in its last user message"),
        ([user([])], "no text in its last user message"),
        ([user("a"), user("")], "no text in its last user message"),
        ([user("a"), {"role": "assistant", "content": "b"}], "end it with the user's question"),
        ([{"from": "human", "value": "a"}], "prompt[0] has the keys from, value"),
        (["a"], "prompt[0] is str 'a'"),
        ([{"role": "bot", "content": "a"}], "prompt[0].role is 'bot'"),
        ([{"role": None, "content": "a"}], "prompt[0].role is None"),
        ([user(3)], "prompt[0].content is int 3"),
        ([user([{"type": "image", "image": "a.png"}])], "the type 'image'"),
        ([user([{"type": "image_url", "image_url": {"url": "a"}}, user("a")])], "'image_url'"),
        ([user([{"type": "text", "text": None}])], "the type 'text'"),
        ('[{"role": "user", "content": "a"}]', "JSON text of messages"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_place(prompt, named):
    assert named in refusal(prompt)


def row(**changes: Any) -> dict[str, Any]:
    whole = {
        "data_source": "gsm8k",
        "prompt": [user("What is 1+1?")],
        "reward_model": {"style": "rule", "ground_truth": "2"},
        "extra_info": {"index": 0},
    }
    return {**whole, **changes}


def test_a_row_is_one_typed_record():
    parsed = parse_row(row())
    assert isinstance(parsed, DatasetRow)
    assert (parsed.data_source, parsed.gold) == ("gsm8k", "2")
    assert parsed.scorer_extra == {"index": 0, "question": "What is 1+1?"}


def test_the_scorer_is_told_the_question_without_its_instructions():
    prompt = [{"role": "system", "content": "Use 24 words."}, user("Make 24 of 1, 2, 3, 4.")]
    assert parse_row(row(prompt=prompt)).scorer_extra["question"] == "Make 24 of 1, 2, 3, 4."


@pytest.mark.parametrize("extra", [None, {}])
def test_extra_info_may_be_missing(extra):
    assert parse_row(row(extra_info=extra)).extra_info == {}


def test_numpy_values_come_back_as_plain_python():
    parsed = parse_row(
        row(
            reward_model={"ground_truth": np.array(["2", "two"])},
            extra_info={"options": np.array(["a", "b"]), "index": np.int64(3)},
        )
    )
    assert parsed.gold == ["2", "two"]
    assert parsed.extra_info == {"options": ["a", "b"], "index": 3}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"extra_info": '{"index": 0}'}, "extra_info is str"),
        ({"extra_info": ["a"]}, "extra_info is list"),
        ({"reward_model": "2"}, "reward_model is str '2'"),
        ({"images": [b"png"]}, "images is not empty: the agent reads text only"),
        ({"videos": ["a.mp4"]}, "videos is not empty"),
    ],
)
def test_a_part_of_another_type_is_refused(changes, named):
    with pytest.raises(ConfigError) as raised:
        parse_row(row(**changes))
    assert named in str(raised.value)


@pytest.mark.parametrize("value", [None, []])
def test_a_media_column_that_is_empty_does_no_harm(value):
    parse_row(row(images=value))


@pytest.mark.parametrize(
    "gold", ["2", 0, 0.0, False, ["", "a"], {"target": ["a"]}, {"value": "a", "aliases": []}]
)
def test_a_gold_with_an_answer(gold):
    assert has_answer(gold)


@pytest.mark.parametrize(
    "gold", [None, "", " ", float("nan"), [], [None, ""], {}, {"target": None}, {"target": []}]
)
def test_a_gold_without_an_answer(gold):
    assert not has_answer(gold)


@pytest.mark.parametrize("gold", [datetime.date(2024, 5, 1), datetime.datetime.now(), b"2"])
def test_a_date_is_no_gold_since_its_text_is_lost(gold):
    with pytest.raises(ConfigError, match="write it as a string"):
        has_answer([gold])


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(plain)
def test_plain_values_stay_as_they_are(value):
    assert without_numpy(value) == value


@given(plain)
def test_any_prompt_is_a_question_or_one_line(value):
    try:
        assert parse_prompt(value).text.strip()
    except ConfigError as wrong:
        assert "\n" not in str(wrong)
