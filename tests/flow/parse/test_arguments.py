"""Tool calls as models write them: broken JSON, wrappers, programs in and around fences."""

from __future__ import annotations

import pytest

from agentflow_verl.core.errors import MalformedOutput
from agentflow_verl.flow.parse import parse_arguments
from tests.flow.parse.tools import CODE, QUERY


def trimmed(arguments):
    return {
        name: value.strip() if isinstance(value, str) else value
        for name, value in arguments.items()
    }


CALLS = [
    (
        '```python\nhtml = "<code>hello</code>"\nprint(html)\n```',
        CODE,
        {"code": 'html = "<code>hello</code>"\nprint(html)'},
    ),
    ('python(code="x = 5 - 3")', CODE, {"code": "x = 5 - 3"}),
    ('code: |\n  d = {"a": 1}\n  print(d["a"])', CODE, {"code": 'd = {"a": 1}\nprint(d["a"])'}),
    ('{"tool": "python_coder", "code": "print(1)"}', CODE, {"code": "print(1)"}),
    (
        '{"type": "object", "properties": {"query": {"type": "string"}}, "query": "Paris"}',
        QUERY,
        {"query": "Paris"},
    ),
    ('execution = tool.execute(code="print(1)")', CODE, {"code": "print(1)"}),
    ("query: Paris\nk: 3\ndeep: true", QUERY, {"query": "Paris", "k": 3, "deep": True}),
    ("code: |\n  print(1)\n  print(2)", CODE, {"code": "print(1)\nprint(2)"}),
    ("<query>Paris</query><k>3</k>", QUERY, {"query": "Paris", "k": 3}),
    (
        '{"query": "Paris", "k": "5", "deep": "True"}',
        QUERY,
        {"query": "Paris", "k": 5, "deep": True},
    ),
    ('```\n{"code": "print(1)"}\n```', CODE, {"code": "print(1)"}),
    ('{"code": "```python\\nprint(1)\\n```"}', CODE, {"code": "print(1)"}),
    ('{"code": "```python\nprint(1)\n```"}', CODE, {"code": "print(1)"}),
    ('```json\n{"code": "```python\\nprint(1)\\n```"}\n```', CODE, {"code": "print(1)"}),
    (
        '<tool_call>{"name": "python_coder", "arguments": {"code": "print(1)"}',
        CODE,
        {"code": "print(1)"},
    ),
    (
        '<tool_call>\n{"name": "python_coder", "arguments": {"code": "print(1)"\n</tool_call>',
        CODE,
        {"code": "print(1)"},
    ),
    ('{"tool": "python_coder", "args": {"code": "print(1)"}}', CODE, {"code": "print(1)"}),
    (
        (
            '{"type":"function","function":{"name":"python_coder","arguments":"{\\"c'
            'ode\\": \\"print(1)\\"}"}}'
        ),
        CODE,
        {"code": "print(1)"},
    ),
    (
        '[TOOL_CALLS] [{"name":"python_coder","arguments":{"code":"print(1)"}}]',
        CODE,
        {"code": "print(1)"},
    ),
    (
        '<|python_tag|>{"type":"function","name":"python_coder","parameters":{"code":"print(1)"}}',
        CODE,
        {"code": "print(1)"},
    ),
    ('{"python_coder": {"code": "print(1)"}}', CODE, {"code": "print(1)"}),
    ('python_coder(code="print(1)")', CODE, {"code": "print(1)"}),
    ('[python_coder(code="print(1)")]', CODE, {"code": "print(1)"}),
    ('```python\npython_coder(code="print(1)")\n```', CODE, {"code": "print(1)"}),
    (
        "<function=python_coder>\n<parameter=code>\nprint(1)\n</parameter>\n</function>",
        CODE,
        {"code": "print(1)"},
    ),
    ('<think>I use {"code": "print(2)"}</think>{"code": "print(1)"}', CODE, {"code": "print(1)"}),
    ('Okay. {"code": "print(2)"}\n</think>\n\n{"code": "print(1)"}', CODE, {"code": "print(1)"}),
    (
        "Here is the program:\n\n```python\nprint(1)\n```\n\nThis prints 1.",
        CODE,
        {"code": "print(1)"},
    ),
    ("```py\nprint(1)\n```", CODE, {"code": "print(1)"}),
    ("```\nprint(1)\n```\nOutput:\n```\n1\n```", CODE, {"code": "print(1)"}),
    ("```python\nprint(1)\n```\n\n```text\n1\n```", CODE, {"code": "print(1)"}),
    ('```json\n{"code": "print(1)",\n}\n```', CODE, {"code": "print(1)"}),
    ('{"code": "print(1)"', CODE, {"code": "print(1)"}),
    ('```json\n{"code": "print(1)"', CODE, {"code": "print(1)"}),
    ('```json\n{"code": "print(1)"\n```', CODE, {"code": "print(1)"}),
    ('{code: "print(1)"}', CODE, {"code": "print(1)"}),
    ("{“code”: “print(1)”}", CODE, {"code": "print(1)"}),
    ('{"code"： "print(1)"}', CODE, {"code": "print(1)"}),
    ('{"code": """print(1)"""}', CODE, {"code": "print(1)"}),
    ("{'code': '''x = 'a'\nprint(x)'''}", CODE, {"code": "x = 'a'\nprint(x)"}),
    ('{"code": "print("hi")"}', CODE, {"code": 'print("hi")'}),
    ('{"code": "print(\'a\')",}', CODE, {"code": "print('a')"}),
    ("{'code': 'print(\"a\")'}", CODE, {"code": 'print("a")'}),
    ("{'code': 'd = {\"a\": 1}\\nprint(d)'}", CODE, {"code": 'd = {"a": 1}\nprint(d)'}),
    ('{"code": "d = {\\"a\\": 1}\\nprint(d)"}', CODE, {"code": 'd = {"a": 1}\nprint(d)'}),
    ('{"code": "d = {\'a\': 1}\nprint(d)",}', CODE, {"code": "d = {'a': 1}\nprint(d)"}),
    ('```python\nd = {"a": 1,}\nprint(d)', CODE, {"code": 'd = {"a": 1,}\nprint(d)'}),
    (
        '```python\nimport json\nprint(json.dumps({"code": "x"}))\n```',
        CODE,
        {"code": 'import json\nprint(json.dumps({"code": "x"}))'},
    ),
    (
        "{\"code\": \"import re\nprint(re.sub('\\s+', ' ', 'a  b'))\"}",
        CODE,
        {"code": "import re\nprint(re.sub('\\s+', ' ', 'a  b'))"},
    ),
    ('{"query": "longest river", "deep": True}', QUERY, {"query": "longest river", "deep": True}),
    ("{'query': 'longest river', 'k': None}", QUERY, {"query": "longest river", "k": None}),
    ('{"query": "the "best" one", "k": 3}', QUERY, {"query": 'the "best" one', "k": 3}),
    ('{"query": "a" "k": 3}', QUERY, {"query": "a", "k": 3}),
    ('{"query": "a", "k": 3]', QUERY, {"query": "a", "k": 3}),
    ('{"query": "a", // the query\n "k": 3}', QUERY, {"query": "a", "k": 3}),
    ('Action: python_coder\nAction Input: {"code": "print(1)"}', CODE, {"code": "print(1)"}),
    ('{"action": "python_coder", "action_input": "print(1)"}', CODE, {"code": "print(1)"}),
    ('{"query": "x"} {"query": "y"}', QUERY, {"query": "y"}),
    ("~~~python\nprint(1)\n~~~", CODE, {"code": "print(1)"}),
    ("1. ```python\nprint(1)\n```", CODE, {"code": "print(1)"}),
    ("   ```python\n   print(1)\n   ```", CODE, {"code": "print(1)"}),
    ("```python print(1)```", CODE, {"code": "print(1)"}),
    ('`{"code": "print(1)"}`', CODE, {"code": "print(1)"}),
    (
        '{"type": "object", "properties": {"code": "print(1)"}, "required": ["code"]}',
        CODE,
        {"code": "print(1)"},
    ),
    ('{"Code": "print(1)"}', CODE, {"code": "print(1)"}),
    ('{"code": ["print(1)"]}', CODE, {"code": ["print(1)"]}),
    ('{"code": "x = \\"\\"\\"a\\"\\"\\"\\nprint(x)"}', CODE, {"code": 'x = """a"""\nprint(x)'}),
    ("```python\nprint(1)\n```\n```python\nprint(2)\n```", CODE, {"code": "print(2)"}),
    (
        "Install:\n```bash\npip install x\n```\nthen\n```python\nprint(1)\n```\n",
        CODE,
        {"code": "print(1)"},
    ),
    ("```python\nprint(1)\n```\nrun it:\n```bash\npython a.py\n```\n", CODE, {"code": "print(1)"}),
    ('{"code": "print(1)"}\n```\n1\n```', CODE, {"code": "print(1)"}),
    ('{"code": "a"}{"note": {"code": "b"}}', CODE, {"code": "b"}),
]


@pytest.mark.parametrize(("text", "schema", "arguments"), CALLS)
def test_a_call_is_read_however_it_is_written(text, schema, arguments):
    assert trimmed(parse_arguments(text, schema)) == arguments


NO_CALLS = [
    ("query: |x| < 3\nsolutions", QUERY),
    ("code: print(1)\n\nThis prints 1.", CODE),
    ("query:", QUERY),
    ("query: &a [1, *a]", QUERY),
    ("The set <query>is</query> not a call.", QUERY),
    ('{"query": "longest ri', QUERY),
    ('{"query": "a", "de', QUERY),
    ('{"code": "print(1)\\nprint(', CODE),
    ('```json\n{"code": "print(1)\\nprint(\n```', CODE),
    ("print(1)", CODE),
    ("The set {x | x > 2} is not a call.", CODE),
]


@pytest.mark.parametrize(("text", "schema"), NO_CALLS)
def test_prose_and_a_call_that_is_cut_off_are_no_call(text, schema):
    with pytest.raises(MalformedOutput):
        parse_arguments(text, schema)


def test_a_tools_own_arguments_may_be_named_like_a_wrappers():
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "arguments": {"type": "object"}},
        "required": ["name", "arguments"],
    }
    wanted = {"name": "a.txt", "arguments": {"mode": "r"}}
    assert parse_arguments('{"name": "a.txt", "arguments": {"mode": "r"}}', schema) == wanted


def test_a_wrong_type_is_left_to_the_check_against_the_schema():
    assert parse_arguments('{"code": 5}', CODE) == {"code": 5}


def test_a_wrappers_name_is_not_taken_for_the_argument_of_that_name():
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    assert parse_arguments('{"name": "lookup", "properties": {"name": "Ada"}}', schema) == {
        "name": "Ada"
    }


def test_a_text_that_is_no_number_of_json_stays_text():
    schema = {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}
    assert parse_arguments('{"n": "NaN"}', schema) == {"n": "NaN"}
    assert parse_arguments('{"n": "1e3"}', schema) == {"n": 1000.0}
