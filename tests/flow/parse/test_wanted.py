"""Arguments inside wrappers, beside other objects, and written twice."""

from __future__ import annotations

import pytest

from agentflow_verl.flow.parse import parse_arguments
from tests.flow.parse.tools import CODE

LIST = {
    "type": "object",
    "properties": {
        "names": {"type": "array"},
        "limit": {"type": "integer"},
    },
    "required": ["names"],
}


@pytest.mark.parametrize(
    "text",
    [
        '{"code": "print(1)"}\nOutput: {"result": "63"}',
        '<tool_call>\n{"name": "python_coder", "arguments": {"code": "print(1)"}}\n</tool_call>\n'
        '<tool_response>\n{"output": "1"}\n</tool_response>',
        '```python\nprint(1)\n```\nIt prints {"a": "one"}.',
        'Using the form {"code": "..."}:\n```python\nprint(1)\n```',
        '{"code": "print(1)"}\n\nNote that {"code": "..."} is the form.',
        '{"tool_name": "python_coder", "tool_args": {"code": "print(1)"}}',
        '{"code": "print(1)", "language": "python"}',
        '"{\\"code\\": \\"print(1)\\"}"',
        '{\\"code\\": \\"print(1)\\"}',
        '{"code": "{\\"code\\": \\"print(1)\\"}"}',
        '{"code": "Here is the code:\\n```python\\nprint(1)\\n```"}',
        '```python\n{"code": "print(1)"}\n```',
        '```tool_call\n{"code": "print(1)"}\n```',
    ],
)
def test_the_program_is_found(text):
    assert parse_arguments(text, CODE)["code"].strip() == "print(1)"


def test_the_text_under_an_unknown_key_counts_where_nothing_else_does():
    assert parse_arguments('{"program": "print(1)"}', CODE) == {"code": "print(1)"}


def test_line_breaks_that_are_escaped_twice_are_line_breaks():
    assert parse_arguments(r'{"code": "x = 5\\nprint(x)"}', CODE) == {"code": "x = 5\nprint(x)"}
    whole = r"print('a\nb')"
    assert parse_arguments(f'{{"code": "{whole}"}}'.replace("\\", "\\\\"), CODE) == {"code": whole}


def test_values_written_as_text_have_the_type_of_the_schema():
    found = parse_arguments('{"names": "[\\"Riga\\"]", "limit": "1,000"}', LIST)
    assert found == {"names": ["Riga"], "limit": 1000}
