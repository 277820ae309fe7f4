"""A tool's name as models write it on a plan's Tool line."""

from __future__ import annotations

import pytest

from tests.flow.parse.tools import tool_of

NAMES = [
    "\\boxed{python_coder}",
    "$\\texttt{python\\_coder}$",
    "python_coder",
    "`python_coder`",
    "'python_coder'",
    "“python_coder”",
    "<python_coder>",
    "[python_coder]",
    "(python_coder)",
    "python_coder()",
    "python_coder(code='print(1)')",
    'python_coder({"code": "x"})',
    "Python Coder",
    "python-coder",
    "PythonCoder",
    "python.coder",
    "PYTHON_CODER",
    "python‑coder",
    "**`python_coder`**",
    "_python_coder_",
    "__python_coder__",
    "python_coder tool",
    "the python_coder tool",
    "Use python_coder",
    "functions.python_coder",
    "tools.python_coder",
    "python_coder - to multiply",
    "python_coder: multiply them",
    "python_coder, because it computes",
    "python_coder (computes)",
    "python_coder to multiply 7 and 9",
    "1. python_coder",
    "- python_coder",
    "\npython_coder",
    "\n- `python_coder`\n",
    "python_coder\n\nThen I wait.",
    "python_coder!",
    "python_coder;",
    "ｐｙｔｈｏｎ＿ｃｏｄｅｒ",
    "python_coder。",
    "Python_Coder_Tool",
    "python_coder\u200b",
    "python _ coder",
    "default_api/python_coder",
    "python_coder [code]",
    "python_coder | multiply",
    "python_coder -> print",
    "python\\_coder",
    "python_coder<|im_end|>",
    "<tool>python_coder</tool>",
    '"python_coder".',
    "mcp__tools__python_coder",
    "@python_coder",
    "$python_coder",
    "I will use python_coder",
    'python_coder\nArguments: {"code": 1}',
    "`python_coder` (to multiply)",
    "**python_coder** - multiplies",
    "python_coder = multiply",
    "python coder tool",
    "tool python_coder",
    "#python_coder",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_tools_name_is_read_however_it_is_written(name):
    assert tool_of(f"Justification: a\nContext: b\nSub-goal: c\nTool: {name}") == "python_coder"


OTHER_NAMES = [
    "hammer",
    "hammer (not python_coder)",
    "not python_coder",
    "coder",
    "python",
    "search",
    "none",
    "none of python_coder and web_search",
    "python_coder2",
    "xpython_coder",
    "no tool",
    "a hammer or python_coder",
]


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_a_tool_that_is_not_there_stays_unknown(name):
    assert tool_of(f"Justification: a\nContext: b\nSub-goal: c\nTool: {name}") is None
