"""A program is found in the text that a model wrote, and a right one is left as it is."""

from __future__ import annotations

import contextlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tool_servers.python_coder.inside.program_text import compile_program

PRINT = "print(6*7)"
LOOP = "for n in range(3):\n    if n:\n        print(n)"


def output(text: str) -> str:
    """What the program prints."""
    _, code = compile_program(text.encode(), "main.py")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    return printed.getvalue().strip()


@pytest.mark.parametrize(
    "text",
    [
        PRINT,
        f"```python\n{PRINT}\n```",
        f"```\n{PRINT}\n```",
        f"~~~py\n{PRINT}\n~~~",
        f"````python\n{PRINT}\n````",
        f"```python\n{PRINT}",
        f"{PRINT}\n```",
        f"```python title='a.py'\n{PRINT}\n```",
        f"Here's the program:\n\n```python\n{PRINT}\n```\nIt prints 42.",
        f"1. Run\n   ```python\n   {PRINT}\n   ```",
        f"python\n{PRINT}",
        f"`{PRINT}`",
        f"    x = 1\n    {PRINT}",
        f">>> {PRINT}\n42",
        f"\ufeff{PRINT}",
        "print(\u200b6*7)",
        "print(6\u00d77)",
        "x\u00a0=\u00a06\nprint(x*7)",
        "print(int(\u201c42\u201d))",
        "x = 6\\nprint(x*7)",
        "if 6 &lt; 7:\n    print(6*7)",
        f"<code>\n{PRINT}\n</code>",
        "```python\nx = 6\n```\nthen\n```python\nprint(x*7)\n```\n```output\n42\n```",
        "```bash\npip install x\n```\n```python\nprint(6*7)\n```",
        "if True:\r\n    print(6*7)\r\n",
        f"{PRINT}}}",
        f'{PRINT}"}}',
        f'{PRINT}"\n}}\n',
        f"{PRINT}'",
    ],
)
def test_program_is_found(text: str) -> None:
    assert output(text) == "42"


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("print('```')", "```"),
        ("print('''\n```python\nprint(1)\n```\n''')", "```python\nprint(1)\n```"),
        ("print('a\u200bb\u00a0c')", "a\u200bb\u00a0c"),
        ("print('\u201cquoted\u201d')  # \u2013 a comment", "\u201cquoted\u201d"),
        (LOOP, "1\n2"),
        (f"```python\n{LOOP}\n```", "1\n2"),
        ("print('it\\'s \\n fine')", "it's \n fine"),
        ("print('&lt;')", "&lt;"),
    ],
)
def test_right_program_is_left_alone(text: str, printed: str) -> None:
    assert output(text) == printed


@pytest.mark.parametrize(
    "text",
    [
        "if True:\nprint(1)",
        "print(",
        "x = = 1",
        "print(1)\0",
        "The answer is 42 because it is.",
        "doc = '''\n```python\nprint(1)\n```\n'''\nx = (",
        '```json\n{"a": true,}\n',
    ],
)
def test_wrong_program_stays_wrong(text: str) -> None:
    with pytest.raises((SyntaxError, ValueError)):
        compile_program(text.encode(), "main.py")


@given(st.text())
def test_any_text_compiles_or_is_an_ordinary_error(text: str) -> None:
    with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        compile_program(text.encode(errors="replace"), "main.py")


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=40))
def test_a_fence_around_a_program_changes_nothing(value: str) -> None:
    program = f"x = {value!a}\nprint(ascii(x))"
    assert output(f"```python\n{program}\n```") == output(program)
