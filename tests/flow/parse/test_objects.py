"""Objects that JSON does not read: what is repaired, and what is left alone."""

from __future__ import annotations

import pytest

from agentflow_verl.flow.parse import parse_arguments
from agentflow_verl.flow.parse.objects import decoded, objects_in
from tests.flow.parse.tools import CODE


@pytest.mark.parametrize(
    "text",
    [
        '{"code": "print(1)" // a comment\n}',
        '{\n  // the code\n  "code": "print(1)"\n}',
        '{"code": "print(1)" /* done */}',
        '{"code": "print(1)", # done\n}',
        "{'code': 'print(1)'}",
        '{"code": "print(1)",}',
    ],
)
def test_comments_and_other_signs_are_repaired(text):
    assert [found.value for found in objects_in(text)] == [{"code": "print(1)"}]


@pytest.mark.parametrize(
    "program",
    [
        'a = 7\nb = 9\nprint(f"The product of {a} and {b} is {a*b}")',
        'd = {"a": 1, "b": 2}\nprint(d["a"])',
        'print("a" + "b")',
    ],
)
def test_a_program_whose_quotes_are_not_escaped_is_whole(program):
    assert parse_arguments(f'{{"code": "{program}"}}', CODE) == {"code": program}


@pytest.mark.parametrize("program", [r"re.sub(r'(a)\s', r'\1', 'a')", r"re.findall(r'\bcat\b', s)"])
def test_backslashes_of_a_program_are_no_control_characters(program):
    assert parse_arguments(f'{{"code": "{program}"}}', CODE) == {"code": program}


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("2^10", "2^10"), ("10:30", "10:30"), ("5 or 6", "5 or 6"), ("12 apples", "12 apples")],
)
def test_a_repair_keeps_the_whole_value_or_nothing(value, wanted):
    for found in objects_in(f'{{"answer": {value}}}'):
        assert found.value == {"answer": wanted}


def test_an_object_inside_a_json_string_is_read():
    text = '"{\\"analysis\\": \\"x\\", \\"conclusion\\": \\"STOP\\"}"'
    assert objects_in(text)[0].value == {"analysis": "x", "conclusion": "STOP"}
    assert decoded('"a quotation" in prose') == '"a quotation" in prose'
