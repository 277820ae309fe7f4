"""What lines and sentences state as their answer."""

from __future__ import annotations

import pytest

from agentflow_verl.flow.answer import extract_answer

STATED = [
    ("Answer: 12\n\nThe answer was computed with python.", "12"),
    ("Answer: Paris\n\nThe answer is correct.", "Paris"),
    ("答案：12\n结果是正确的", "12"),
    ("结果如下：\n12", "12"),
    ("综上所述，答案为12", "12"),
    ("因此，正确选项是B", "B"),
    ("【答案】63", "63"),
    ("Answer: 12. I hope this helps!", "12."),
    ("The answer is Paris. It is the capital of France.", "Paris."),
    ("The answer is Dr. Smith. He was a doctor.", "Dr. Smith."),
    ("The answer is 12. Wait, no: the answer is 13.", "13."),
    ("Final Answer: The final answer is $12$. I hope it is correct.", "$12$."),
    ("The answer is\n$$\n63\n$$", "63"),
    ("The answer is as follows:\n\n63", "63"),
    ("1. Reason: x\n2. **Answer**: 12", "12"),
    ("*Final Answer*: Paris", "Paris"),
    ("Answer - 12", "12"),
    ("Short answer: Paris", "Paris"),
    ("Final_answer: 63", "63"),
    ("Answer (in cm): 63", "63"),
    ("The answer should be 12", "12"),
    ("Answers: 3 and 4", "3 and 4"),
    ("Ans: 12", "12"),
    ("| Answer | 12 |", "12"),
    ("Here is the answer: 63", "63"),
    ("Option B is correct.", "Option B"),
    ("So B is the correct answer.", "B"),
    ("x is 3 and y is 4, so the sum is 7.", "7"),
    ("The answer is right triangle", "right triangle"),
]


@pytest.mark.parametrize(("text", "answer"), STATED)
def test_a_line_or_sentence_states(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The solutions are x = 3 and x = 4.", "x = 3 and x = 4"),
        ("Therefore, x = 2 and y = 3.", "x = 2 and y = 3"),
        ("So x = 5 or x = -5.", "x = 5 or x = -5"),
        ("It is 4 or it is 5.", "It is 4 or it is 5."),
        ("a is 4 and the value of b is 5.", "a is 4 and the value of b is 5."),
        ("The wrong answer is 5.", "The wrong answer is 5."),
        ("Answer: 12. It could also be 13.", "12. It could also be 13."),
        ("Answer: B. I am not sure, though.", "B. I am not sure, though."),
        ("Answer: Paris. It is not Rome or Oslo.", "Paris. It is not Rome or Oslo."),
        ("It is false that the answer is 5.", "It is false that the answer is 5."),
    ],
)
def test_of_several_values_none_is_picked(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"answer": 1,234}', "1,234"),
        ('{"answer": 1/2}', "1/2"),
        ('{"answer": 2^10, "reason": "x"}', "2^10"),
        ('{answer: "12"}', "12"),
        ('{"answer": "\\frac{1}{2}"}', "\\frac{1}{2}"),
        ('{"answer": "\\neq 2"}', "\\neq 2"),
    ],
)
def test_a_json_answer_is_whole(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize("end", ["<|im_end|>", "<|endoftext|>", "</s>", "<end_of_turn>"])
def test_another_turn_states_nothing(end):
    assert extract_answer(f"Answer: 12{end}\n<|im_start|>user\nAnswer: 13") == "12"
