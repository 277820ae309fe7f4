"""Replies of frozen modules, under a schema and without."""

from __future__ import annotations

import json

import pytest

from agentflow_verl.flow.replies import (
    ANALYSIS,
    ANALYSIS_CHARS,
    ANSWER,
    VERDICT,
    analysis_of,
    answer_of,
)
from agentflow_verl.tools.schema import ArgumentCheck


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"reason": "It follows.", "answer": "4"}', "4"),
        ('```json\n{"reason": "It follows.", "answer": "4"}\n```', "4"),
        ("{'reason': 'It follows.', 'answer': '4',}", "4"),
        ('{"reason": "It follows.", "answer": 4}', "4"),
        ('{"reason": "It follows.", "answer": "The answer is **4**"}', "4"),
        ('<think>{"answer": "5"}</think>{"reason": "", "answer": "4"}', "4"),
        ("It follows. <answer>4</answer>", "4"),
        (r'{"reason": "", "answer": "\\frac{1}{2}"}', r"\frac{1}{2}"),
        (r'{"reason": "", "answer": "\frac{1}{2}"}', r"\frac{1}{2}"),
        (r'{"reason": "", "answer": "\text{Oslo}"}', "Oslo"),
        ("", ""),
    ],
)
def test_the_answer_is_the_field_and_not_searched_for(text, answer):
    assert answer_of(text) == answer


def test_an_analysis_is_the_field_or_the_whole_text():
    assert analysis_of('{"analysis": " Double it. "}') == "Double it."
    assert analysis_of("Double it.") == "Double it."
    assert analysis_of("<think>hm</think>\nDouble it.") == "Double it."


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("Find the topic of Riga in the encyclopedia. " * 3 + "x" * 200, "Find the topic of Riga"),
        ("找到里加所属的主题。" * 20 + "然后" * 100, "找到里加所属的主题。"),
        ("Dr. " + "x" * 300, "Dr. x"),
        ("x" * 300, "x"),
    ],
)
def test_an_analysis_at_its_limit_ends_with_a_sentence_where_it_has_one(written, kept):
    analysis = analysis_of(json.dumps({"analysis": written[:ANALYSIS_CHARS]}))
    assert analysis.startswith(kept)
    assert len(analysis) > ANALYSIS_CHARS / 3
    if kept[-1] != "x":
        assert analysis[-1] in ".。"


@pytest.mark.parametrize(
    ("schema", "reply"),
    [
        (ANALYSIS, {"analysis": "x"}),
        (VERDICT, {"analysis": "x", "conclusion": "STOP"}),
        (ANSWER, {"reason": "x", "answer": "4"}),
        (ANSWER, {"reason": "x", "answer": 4}),
        (ANSWER, {"reason": "x", "answer": -0.5}),
    ],
)
def test_the_schemas_take_what_the_prompts_ask_for(schema, reply):
    ArgumentCheck("module", schema)(reply)
