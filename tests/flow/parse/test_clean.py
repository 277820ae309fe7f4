"""What is taken off or levelled before a text is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.flow.parse import without_reasoning
from agentflow_verl.flow.parse.clean import fences, levelled


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("<think>a</think>b", "b"),
        ("a\n</think>\nb", "\nb"),
        ("<think>a", ""),
        ("x\n<think>a</think>\ny", "x\n\ny"),
        ("<think>a<think>b</think>c</think>d", "d"),
        ("<THINKING>a</THINKING>b", "b"),
        ("<reasoning>a</reasoning>b", "b"),
        ("[THINK]a[/THINK]b", "b"),
        ("\u25c1think\u25b7a\u25c1/think\u25b7b", "b"),
        ("<|channel|>analysis<|message|>a<|channel|>final<|message|>b", "b"),
        ("plain", "plain"),
        ("a<|im_end|>\n<|im_start|>user\nb", "a"),
        ("a<|endoftext|>Human: b", "a"),
        ("a</s>", "a"),
        ("<|im_end|>a", "<|im_end|>a"),
        ('print("<|im_end|>")', 'print("<|im_end|>")'),
        ("print('<s>x</s>')", "print('<s>x</s>')"),
        ('{"query": "what does <think> mean"}', '{"query": "what does <think> mean"}'),
        ('{"code": "s.split(\'</think>\')"}', '{"code": "s.split(\'</think>\')"}'),
    ],
)
def test_reasoning_is_taken_off_and_a_tag_in_a_sentence_is_not(text, rest):
    assert without_reasoning(text) == rest


@given(st.text())
def test_levelling_keeps_every_position(text):
    assert len(levelled(text)) == len(text)


def test_full_width_letters_and_signs_become_ascii():
    assert levelled("\uff34ool\uff1a\u201ca\u201d\u2011b\u3002") == 'Tool:"a"-b.'


def test_fences_are_found_with_their_language():
    found = fences("a\n```python\nx\n```\nb\n~~~\ny\n~~~\n```json\n{")
    assert [(block.language, block.body) for block in found] == [
        ("python", "x\n"),
        ("", "y\n"),
        ("json", "{"),
    ]
