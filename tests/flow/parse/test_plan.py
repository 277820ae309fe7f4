"""Plans as models write them: labels, their marks and separators, and the tool's name."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow_verl.core.errors import MalformedOutput
from agentflow_verl.flow.parse import complete_plan, parse_plan
from agentflow_verl.flow.parse.plan import plan_parts
from tests.flow.parse.tools import tool_of

PLANS = [
    (
        "Justification (why this step comes next): a\nContext (facts): b\n"
        "Sub-goal (one step): multiply them\nTool (the name of one tool): python_coder"
    ),
    "Justification: a\nContext: b\nSub-goal 1: multiply them\nTool: python_coder",
    "Justification: a\n---\nContext: b\n---\nSub-goal: multiply them\n---\nTool: python_coder",
    "**Justification** a\n**Context** b\n**Sub-goal** multiply them\n**Tool** python_coder",
    "[Justification] a\n[Context] b\n[Sub-goal] multiply them\n[Tool] python_coder",
    "<Justification>: a\n<Context>: b\n<Sub-goal>: multiply them\n<Tool>: python_coder",
    "\U0001f4a1 **Sub-goal:** multiply them\n\U0001f527 **Tool:** python_coder",
    "Justification: a\nContext: b\nSubtask: multiply them\nRequired tool: python_coder",
    "Justification: a\nContext: b\nNext step: multiply them\nTool to be used: python_coder",
    "Justification: a\\nContext: b\\nSub-goal: multiply them\\nTool: python_coder",
    "Sub-goal: multiply them\nTool: python_coder<|im_end|>\n<|im_start|>user\nTool: web_search",
    '{"plan": {"justification": "a", "sub_goal": "multiply them", "tool": "python_coder"}}',
    '{"steps": [{"sub_goal": "multiply them", "tool": ["python_coder"]}]}',
    '{justification: "a", context: "b", sub_goal: "multiply them", tool: "python_coder"}',
    (
        "Justification: a\nContext: b\nSub-goal: multiply them\n<tool_call>\n"
        '{"name": "python_coder", "arguments": {"code": "print(7*9)"}}\n</tool_call>'
    ),
    (
        "Justification: a\nContext: b\nSub-goal: multiply them\n"
        'Tool:\n```json\n{"name": "python_coder"}\n```'
    ),
    (
        "<justification>a</justification>\n<context>b</context>\n<sub_goal>multiply them</sub_goal>"
        "\n<tool>python_coder</tool>"
    ),
    'Justification = "a"\nContext = "b"\nSub-goal = "multiply them"\nTool = "python_coder"',
    "Justification - a\nContext - b\nSub-goal - multiply them\nTool - python_coder",
    "Justification = a\nContext = b\nSub-goal = multiply them\nTool = python_coder",
    "(1) Justification: a\n(2) Context: b\n(3) Sub-goal: multiply them\n(4) Tool: python_coder",
    "1) Justification: a\n2) Context: b\n3) Sub-goal: multiply them\n4) Tool: python_coder",
    (
        "**1. Justification:** a\n**2. Context:** b\n**3. Sub-goal:** multiply them\n"
        "**4. Tool:** python_coder"
    ),
    (
        "1. **Justification**: a\n2. **Context**: b\n3. **Sub-goal**: multiply them\n"
        "4. **Tool**: `python_coder`"
    ),
    (
        "- **Justification:** a\n- **Context:** b\n- **Sub-goal:** multiply them\n"
        "- **Tool:** python_coder"
    ),
    "## Justification:\na\n## Context:\nb\n## Sub-goal:\nmultiply them\n## Tool:\npython_coder",
    (
        "**Justification**\na\n\n**Context**\nb\n\n**Sub-goal**\nmultiply them\n\n**Tool**\n"
        "python_coder"
    ),
    "Justification\na\nContext\nb\nSub-goal\nmultiply them\nTool\npython_coder",
    "JUSTIFICATION: a\nCONTEXT: b\nSUB-GOAL: multiply them\nTOOL: python_coder",
    "Justification: a\nContext: b\nSubgoal: multiply them\nTool: python_coder",
    "Justification: a\nContext: b\nSub goal: multiply them\nTool Name: python_coder",
    "Justification: a\nContext: b\nSub_goal: multiply them\ntool_name: python_coder",
    (
        "```\nJustification: a number is needed\nContext: 7 and 9\nSub-goal: multiply them\n"
        "Tool: python_coder\n```"
    ),
    (
        "```text\nJustification: a number is needed\nContext: 7 and 9\n"
        "Sub-goal: multiply them\nTool: python_coder\n```\nDone."
    ),
    (
        "<think>Tool: x\nSub-goal: y</think>\nJustification: a number is needed\n"
        "Context: 7 and 9\nSub-goal: multiply them\nTool: python_coder"
    ),
    (
        "Tool: hm\nSub-goal: k\n</think>\nJustification: a number is needed\nContext: 7 and 9\n"
        "Sub-goal: multiply them\nTool: python_coder"
    ),
    (
        "> Justification: a number is needed\n> Context: 7 and 9\n> Sub-goal: multiply them\n"
        "> Tool: python_coder"
    ),
    '{"justification": "a", "context": "b", "sub_goal": "multiply them", "tool": "python_coder"}',
    (
        "```json\n"
        '{"Justification": "a", "Context": "b", "Sub-goal": "multiply them", "T'
        'ool": "python_coder"}\n'
        "```"
    ),
    (
        "<justification>a</justification>\n<context>b</context>\n"
        "<sub_goal>multiply them</sub_goal>\n<tool>python_coder</tool>"
    ),
    (
        "| Justification | a |\n| Context | b |\n| Sub-goal | multiply them |\n"
        "| Tool | python_coder |"
    ),
    "Justification: a Context: b Sub-goal: multiply them Tool: python_coder",
    (
        "Here is my plan:\n\nJustification: a number is needed\nContext: 7 and 9\n"
        "Sub-goal: multiply them\nTool: python_coder\n\nLet me know!"
    ),
    "Tool: python_coder\nSub-goal: multiply them\nContext: b\nJustification: a",
    "Sub-goal: multiply them\nTool: python_coder",
    (
        "Justification: a number is needed\nContext: 7 and 9\nSub-goal: multiply them\n"
        "Tool: python_coder\nResult: 63\nJustification: more\nContext: z\nSub-goal: cut"
    ),
    (
        "Justification: a number is needed\n\nContext: 7 and 9\n\nSub-goal: multiply them\n\n"
        "Tool: python_coder"
    ),
    (
        "Justification: a number is needed\r\nContext: 7 and 9\r\nSub-goal: multiply them\r\n"
        "Tool: python_coder"
    ),
    "Justification:a\nContext:b\nSub-goal:multiply them\nTool:python_coder",
    "*Justification:* a\n*Context:* b\n*Sub-goal:* multiply them\n*Tool:* python_coder",
    (
        "***Justification:*** a\n***Context:*** b\n***Sub-goal:*** multiply them\n"
        "***Tool:*** python_coder"
    ),
    (
        "Step 1: Justification: a\nStep 2: Context: b\nStep 3: Sub-goal: multiply them\n"
        "Step 4: Tool: python_coder"
    ),
    "Justification: a\nContext: b\nSub–goal: multiply them\nTool: python_coder",
    "**Justification: a**\n**Context: b**\n**Sub-goal: multiply them**\n**Tool: python_coder**",
    "• Justification: a\n• Context: b\n• Sub-goal: multiply them\n• Tool: python_coder",
    "Justification: a\nContext: b\nTool: python_coder\nSub-goal: multiply them",
    "I. Justification: a\nII. Context: b\nIII. Sub-goal: multiply them\nIV. Tool: python_coder",
    "a) Justification: a\nb) Context: b\nc) Sub-goal: multiply them\nd) Tool: python_coder",
    "1️⃣ Justification: a\n2️⃣ Context: b\n3️⃣ Sub-goal: multiply them\n4️⃣ Tool: python_coder",
    '"Justification": "a",\n"Context": "b",\n"Sub-goal": "multiply them",\n"Tool": "python_coder"',
    "`Justification:` a\n`Context:` b\n`Sub-goal:` multiply them\n`Tool:` python_coder",
    "The sub-goal: multiply them\nThe tool: python_coder",
    "Justification: a;\nContext: b;\nNext sub-goal: multiply them\nTool to use: python_coder",
    (
        "<plan>\nJustification: a number is needed\nContext: 7 and 9\nSub-goal: multiply them\n"
        "Tool: python_coder\n</plan>"
    ),
    "Justification:\ta\nContext:\tb\nSub-goal:\tmultiply them\nTool:\tpython_coder",
    "Justification: a\nContext: b\nSub-goal: multiply them\nTools: python_coder",
    "Justification: a\nContext: b\nSub-goal: multiply them\nSelected Tool: python_coder",
    "Justification: a\nContext: b\nTool: hammer\nSub-goal: multiply them\nTool: python_coder",
    "Turn 1\nSub-goal: k\nTool: hammer\n\nTurn 2\nSub-goal: multiply them\nTool: python_coder",
]


@pytest.mark.parametrize("text", PLANS)
def test_a_plan_is_read_however_its_labels_are_written(text):
    assert parse_plan(text).sub_goal == "multiply them"
    assert tool_of(text) == "python_coder"


NO_PLANS = [
    "Justification: a\nContext: b\nSub-goal: multiply\nTool:",
    "Tool: python_coder",
    "The context of the tool is unclear.",
    "Justification: we need no Tool: and no Sub-goal:",
    (
        "<think>\nJustification: a number is needed\nContext: 7 and 9\n"
        "Sub-goal: multiply them\nTool: python_coder"
    ),
    (
        "<think>Justification: a number is needed\nContext: 7 and 9\nSub-goal: multiply them\n"
        "Tool: python_coder</think>"
    ),
]


@pytest.mark.parametrize("text", NO_PLANS)
def test_what_names_no_step_or_no_tool_is_malformed(text):
    with pytest.raises(MalformedOutput, match="the plan has no"):
        parse_plan(text)


def test_a_reason_inside_a_context_is_no_justification():
    text = (
        "Justification: a\nContext: log:\nReason: hardware failure\nSub-goal: c\nTool: python_coder"
    )
    assert parse_plan(text).justification == "a"
    assert parse_plan("Reason: a\nSub-goal: c\nTool: python_coder").justification == "a"


def test_a_labels_word_inside_a_value_is_no_label():
    text = "Justification: a\nContext: b\nSub-goal: find Tool: hammer\nTool: web_search"
    assert parse_plan(text).sub_goal == "find Tool: hammer"
    assert tool_of(text) == "web_search"


def test_parts_of_a_plan_are_read_where_others_are_missing():
    parts = plan_parts("Justification: a number is needed\nTool: `python_coder`")
    assert (parts.justification, parts.sub_goal, parts.tool) == (
        "a number is needed",
        "",
        "python_coder",
    )


def test_a_tool_call_names_the_tool():
    text = '{"name": "python_coder", "arguments": {"code": "print(1)"}}'
    assert plan_parts(text).tool == "python_coder"


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(("", "- ", "> ", "1. ", "(1) ", "a) ", "### ", "**", "* **", "`", "Step 1: ")),
    st.sampled_from((":", " :", "\uff1a", " =", " ->", ":\n", " - ", " \u2013 ")),
    st.sampled_from((str, str.upper, str.lower, str.title)),
    st.sampled_from(("\n", "\n\n", "\r\n")),
)
def test_marks_separators_and_case_change_nothing(marks, separator, case, line_end):
    closing = "**" if marks.endswith("**") else marks.strip() if marks == "`" else ""
    lines = []
    for label, value in (
        ("Justification", "why"),
        ("Context", "7 and 9"),
        ("Sub-goal", "multiply"),
        ("Tool", "web_search"),
    ):
        lines.append(f"{marks}{case(label)}{closing}{separator} {value}")
    plan = parse_plan(line_end.join(lines))
    assert (plan.justification, plan.context) == ("why", "7 and 9")
    assert (plan.sub_goal, plan.tool) == ("multiply", "web_search")


def test_a_context_that_is_an_object_reaches_the_executor_as_text():
    plan = parse_plan('{"context": {"x": 1}, "sub_goal": "double x", "tool": "python_coder"}')
    assert plan.context == '{"x": 1}'


@pytest.mark.parametrize(
    "text",
    [
        "<b>python_coder</b> <tool>web_search",
        "The <tool>web_search</tool> tool found nothing; the <tool>python_coder</tool> tool fails.",
        "No tool is needed: <tool>none</tool>.",
    ],
)
def test_tags_in_prose_are_no_plan(text):
    with pytest.raises(MalformedOutput, match="no Sub-goal"):
        parse_plan(text)


@pytest.mark.parametrize(
    "text, tool",
    [
        ('{"sub_goal": "find x", "tool": "web_search"}\n{"tool_used": false}', "web_search"),
        ('{"sub_goal": "find x", "tool": "web_search"}\n{"tools": []}', "web_search"),
        ('{"sub_goal": "find x", "tool": {"name": "web_search"}}', "web_search"),
    ],
)
def test_the_tool_of_an_object_is_a_name(text, tool):
    plan = parse_plan(text)
    assert (plan.sub_goal, plan.tool) == ("find x", tool)


SPOKEN = [
    ("Justification: 7 and 9 must be multiplied. The tool should be python_coder.", "python_coder"),
    ("Justification: we can use the `wikipedia_search` tool to look it up", "wikipedia_search"),
    ("Justification: a value is missing\nSub-goal: run 7 * 9 with Python_Coder", "python_coder"),
]


@pytest.mark.parametrize(("text", "tool"), SPOKEN)
def test_the_one_tool_that_a_plan_without_a_tool_line_speaks_of_is_its_tool(text, tool):
    plan = complete_plan(text, "7 * 9?", ["python_coder", "wikipedia_search"])
    assert plan.tool == tool
    assert "tool" in plan.supplied


@pytest.mark.parametrize(
    "text",
    [
        "I would multiply the numbers with python_coder.",  # no plan at all
        "Justification: python_coder or wikipedia_search would do\nSub-goal: multiply",
        "Justification: there is no need for python_coder here\nSub-goal: multiply",
        "Justification: we cannot use python_coder for this\nSub-goal: multiply",
        "Justification: python_coder is not needed here\nSub-goal: multiply",
        "Justification: the `python_coder` tool can't do this\nSub-goal: multiply",
        "Justification: wikipedia_search_2 could help\nSub-goal: multiply",
        "Context: python_coder printed 63\nSub-goal: check it",
    ],
)
def test_no_tool_several_or_one_denied_is_no_plan(text):
    with pytest.raises(MalformedOutput, match="no Tool: line"):
        complete_plan(text, "7 * 9?", ["python_coder", "wikipedia_search"])


def test_a_tool_whose_name_is_a_plain_word_is_spoken_of_as_a_tool():
    tools = ["search", "python_coder"]
    plan = complete_plan("Justification: use the search tool\nContext: none", "Riga?", tools)
    assert plan.tool == "search"
    plan = complete_plan("Justification: search the digits with python_coder", "Riga?", tools)
    assert plan.tool == "python_coder"
    with pytest.raises(MalformedOutput):
        complete_plan("Justification: search for Riga\nSub-goal: the topic of Riga", "Riga?", tools)


@pytest.mark.parametrize(
    ("line", "tool"),
    [
        ("The tool to be used is python_coder", "python_coder"),
        ("we use the `python_coder` tool here", "python_coder"),
        ("python_coder or wikipedia_search", "python_coder or wikipedia_search"),
        ("not python_coder but a map", "not python_coder but a map"),
        ("a map", "a map"),
    ],
)
def test_a_sentence_in_the_tool_line_names_the_one_tool_that_it_speaks_of(line, tool):
    text = f"Justification: a\nContext: b\nSub-goal: c\nTool: {line}"
    assert complete_plan(text, "7 * 9?", ["python_coder", "wikipedia_search"]).tool == tool
