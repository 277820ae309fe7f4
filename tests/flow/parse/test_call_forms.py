"""Arguments that are no JSON object: tags, calls, fenced programs, lines."""

from __future__ import annotations

import pytest

from agentflow_verl.core.errors import MalformedOutput
from agentflow_verl.flow.parse import parse_arguments
from tests.flow.parse.tools import CODE, QUERY


def read(text, schema):
    found = parse_arguments(text, schema)
    return {name: v.strip() if isinstance(v, str) else v for name, v in found.items()}


@pytest.mark.parametrize(
    "text",
    [
        'Tool: python_coder(code="print(1)")',
        'I will call python_coder(code="print(1)").',
        '`python_coder(code="print(1)")`',
        'python_coder("print(1)")',
        '```python\nprint(python_coder(code="print(1)"))\n```',
        "<code>\n```python\nprint(1)\n```\n</code>",
        "<python_coder><code>print(1)</code></python_coder>",
        "Here is the call:\n<code>print(1)</code>",
        "Code: ```python\nprint(1)\n```",
        "```python\nprint(1)```",
        "```python\nprint(1)\n``` This prints 1.",
        "1. ```python\n   print(1)\n   ```",
        "> ```python\n> print(1)\n> ```",
        "```\nprint(1)\n```\n\n```\n1\n```",
        "```\nprint(1)\n```\nThe output of this program is what is asked for:\n```\none\n```",
        "```yaml\ncode: |\n  print(1)\n```",
        '"code": "print(1)"',
    ],
)
def test_a_program_is_found(text):
    assert read(text, CODE) == {"code": "print(1)"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('wikipedia_search("Paris")', {"query": "Paris"}),
        ('```python\nwikipedia_search("Paris")\n```', {"query": "Paris"}),
        ('wikipedia_search(query="Paris", deep=true)', {"query": "Paris", "deep": True}),
        ('```python\nquery = "Paris"\n```', {"query": "Paris"}),
        ("```yaml\nquery: Paris\n```", {"query": "Paris"}),
        ("```xml\n<query>Paris</query>\n```", {"query": "Paris"}),
        ("query: who is #1 in chess", {"query": "who is #1 in chess"}),
        ("query: capital of France: Paris?", {"query": "capital of France: Paris?"}),
        ('query: "Faust" author', {"query": '"Faust" author'}),
        ("Query: Paris", {"query": "Paris"}),
        ("- query: Riga\n- k: 3", {"query": "Riga", "k": 3}),
        ('query="Paris", k=3', {"query": "Paris", "k": 3}),
        ('"query": "Paris", "k": 3', {"query": "Paris", "k": 3}),
    ],
)
def test_a_query_is_found(text, wanted):
    assert read(text, QUERY) == wanted


def test_a_fenced_call_in_a_program_is_the_program():
    text = '```python\nsolve("x")\n```'
    assert read(text, CODE) == {"code": 'solve("x")'}


def test_a_fence_inside_triple_quotes_does_not_end_a_program():
    program = 's = """\n```\nfoo\n```\n"""\nprint(s)'
    assert read(f"```python\n{program}\n```", CODE) == {"code": program}


def test_the_depth_of_a_list_is_taken_off_a_program():
    text = "- ```python\n  for i in range(2):\n      print(i)\n  ```"
    assert read(text, CODE) == {"code": "for i in range(2):\n    print(i)"}


@pytest.mark.parametrize(
    "text",
    [
        'print("hello")',
        "I would call wikipedia_search(query) now.",
        "query: Paris\nThat is what I would search.",
        "<query>Paris</query> would be a good query.",
    ],
)
def test_prose_and_calls_without_literals_are_no_arguments(text):
    with pytest.raises(MalformedOutput):
        parse_arguments(text, QUERY if "query" in text else CODE)
