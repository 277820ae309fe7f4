"""From a module's text to what it must return: the form that prompts ask for, the forms that models
write instead, and text that is neither.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentflow_verl.core.errors import MalformedOutput
from agentflow_verl.flow.parse import parse_arguments, parse_plan, parse_verdict
from agentflow_verl.trajectories.records import Call, Plan, Verdict

ONE_STRING = {
    "type": "object",
    "properties": {"code": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["code"],
}
TWO = {
    "type": "object",
    "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
    "required": ["a", "b"],
}
quick = settings(max_examples=150, deadline=None)

# Text that looks like what models write, so that the rules are reached.
PIECES = st.sampled_from(
    [
        "Justification:",
        "Context:",
        "Sub-goal:",
        "Tool:",
        "**Tool Name**:",
        "Analysis:",
        "Conclusion: STOP",
        "conclusion - stop",
    ]
    + [
        "Conclusion: CONTINUE",
        "\n",
        " ",
        "```",
        "```json\n",
        "{",
        "}",
        '{"code": 1}',
        '"',
        "[",
        "]",
        ":",
        ",",
        "\\",
        "#",
        "\ud83d",
    ]
)
TEXT = st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=30).map("".join)


# ---- plans ----


def test_the_strict_plan():
    plan = parse_plan(
        "Justification: why\nContext: x = 2\ny = 3\nSub-goal: add\nTool: python_coder"
    )
    assert plan == Plan(
        justification="why", context="x = 2\ny = 3", sub_goal="add", tool="python_coder"
    )


def test_the_strict_plan_keeps_labels_inside_its_context():
    """A copied context may say "tool: hammer"; the plan's labels are those of its own style."""
    plan = parse_plan(
        "Justification: why\nContext: * tool: hammer\n* context: shed\nSub-goal: add\nTool:"
        " python_coder\n"
    )
    assert plan.context == "* tool: hammer\n* context: shed"
    assert plan.tool == "python_coder"


@pytest.mark.parametrize(
    "text",
    [
        "**Justification:** why\n**Context:** c\n**Sub-Goal:** add\n**Tool Name:** python_coder",
        "# Justification: why\n- context: c\n- sub goal: add\n- TOOL: `python_coder`",
        "Sub-goal: add\nTool: python_coder\nJustification: why\nContext: c",
        (
            "<think>Tool: no\nSub-goal: no</think>\nJustification: why\nContext: c\nSub-goal:"
            " add\nTool: 'python_coder'"
        ),
        (
            "Justification: why\nContext: c\nSub-goal: add\nTool: python_coder\n\nI will wait for"
            " the result."
        ),
        "Tool: other\nJustification: why\nContext: c\nSub-goal: add\nTool: python_coder",
    ],
)
def test_the_fallback_takes_the_last_labels_wherever_they_are(text):
    plan = parse_plan(text)
    assert (plan.justification, plan.context, plan.sub_goal, plan.tool) == (
        "why",
        "c",
        "add",
        "python_coder",
    )


def test_a_plan_may_leave_out_justification_and_context():
    plan = parse_plan("Sub-goal: add\nTool: python_coder")
    assert (plan.justification, plan.context) == ("", "")


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("", "no Sub-goal: line and no Tool: line"),
        ("I will use the tool python_coder.", "no Sub-goal: line and no Tool: line"),
        ("Sub-goal: add", "no Tool: line"),
        ("Tool: python_coder", "no Sub-goal: line"),
        ("Justification: a\nContext: b\nSub-goal: \nTool: python_coder", "no Sub-goal: line"),
        ("Justification: a\nContext: b\nSub-goal: c\nTool:  ", "no Tool: line"),
    ],
)
def test_a_plan_without_its_lines_names_them(text, missing):
    with pytest.raises(MalformedOutput, match=missing):
        parse_plan(text)


@quick
@given(TEXT)
def test_any_text_is_a_plan_or_malformed(text):
    try:
        plan = parse_plan(text)
    except MalformedOutput:
        return
    assert plan.sub_goal.strip() and plan.tool.strip()
    assert "\n" not in plan.tool


LINE = (
    st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=20)
    .map(str.strip)
    .filter(bool)
    .filter(lambda line: line[0] not in "\"'")  # quotes around the whole of it are taken off
)


@quick
@given(LINE, LINE, LINE, st.from_regex(r"[a-z][a-z0-9_]{0,15}[a-z0-9]", fullmatch=True))
def test_what_is_written_strictly_is_read_back(justification, context, sub_goal, tool):
    wanted = Plan(justification=justification, context=context, sub_goal=sub_goal, tool=tool)
    text = f"Justification: {justification}\nContext: {context}\nSub-goal: {sub_goal}\nTool: {tool}"
    assert parse_plan(text) == wanted


# ---- arguments ----


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('{"code": "1"}', {"code": "1"}),
        (' \n{"code": "1"}\n', {"code": "1"}),
        ('```json\n{"code": "1"}\n```', {"code": "1"}),
        ('First {"code": "0"}, better:\n```json\n{"code": "1"}\n```\nDone.', {"code": "1"}),
        ('```json\n{"code": "0"}\n```\n```json\n{"code": "1"}\n```', {"code": "1"}),
        ('The call is {"code": "0"} or rather {"code": "1"}.', {"code": "1"}),
        (
            'Nested: {"code": "1", "more": {"deep": {"n": 1}}} there',
            {"code": "1", "more": {"deep": {"n": 1}}},
        ),
        (
            '{"list": [' + ",".join(['{"n": 1}'] * 60) + "]} and nothing else",
            {"list": [{"n": 1}] * 60},
        ),
        ("\\frac{1}{2} {x} " * 50 + '{"code": "1"}', {"code": "1"}),
        ("{}", {}),
    ],
)
def test_the_last_json_object_is_the_call(text, arguments):
    assert parse_arguments(text, TWO) == arguments


def test_a_single_string_argument_may_come_as_a_fenced_block():
    assert parse_arguments("```python\nprint(1)\n```", ONE_STRING) == {"code": "print(1)\n"}
    assert parse_arguments("```python\nd = dict(a=1)\nprint(d)\n```", ONE_STRING)[
        "code"
    ].startswith("d = dict")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "print(1)",
        "[1, 2]",
        '"code"',
        "null",
        '{"code": "1',
        '{"a": "x", "b": "y',
        "The set {x | x > 2} is no call, and neither is \\\\frac{a}{b}.",
        "```\nprint(1)\n```",
    ],
)
def test_other_text_is_no_call(text):
    with pytest.raises(MalformedOutput, match="not a JSON object"):
        parse_arguments(text, TWO)


def test_nesting_beyond_what_a_record_can_hold_is_malformed():
    assert parse_arguments('{"a": ' + "[" * 60 + "]" * 60 + "}", TWO)
    with pytest.raises(MalformedOutput, match="nested more than 64 deep"):
        parse_arguments('{"a": ' + "[" * 64 + "]" * 64 + "}", TWO)


@quick
@given(TEXT, st.sampled_from((ONE_STRING, TWO, {})))
def test_any_text_is_a_recordable_call_or_malformed(text, schema):
    try:
        arguments = parse_arguments(text, schema)
    except MalformedOutput:
        return
    call = Call(tool="t", arguments=arguments)
    assert isinstance(arguments, dict)
    call.model_dump_json().encode()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@quick
@given(st.dictionaries(st.text(max_size=6), JSON, max_size=4), st.booleans())
@example({"": {"»,": ""}}, False)  # what typographic quotes could also mean
def test_every_json_object_is_read_back(arguments, ascii_only):
    text = json.dumps(arguments, ensure_ascii=ascii_only)
    expected = json.loads(text)
    assert parse_arguments(text, TWO) == expected
    assert parse_arguments(f"Here you are: {text} OK?", TWO) == expected


# ---- verdicts ----


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Analysis: all there\nConclusion: STOP", Verdict(stop=True, analysis="all there")),
        ("Analysis: a\nb\nConclusion: CONTINUE\n", Verdict(stop=False, analysis="a\nb")),
        ("**Analysis:** fine\n**Conclusion:** stop", Verdict(stop=True, analysis="fine")),
        ("I think so.\nconclusion: Stop.", Verdict(stop=True, analysis="I think so.")),
        (
            "Conclusion: STOP\nno wait\nConclusion: CONTINUE",
            Verdict(stop=False, analysis="Conclusion: STOP\nno wait"),
        ),
        (
            "Analysis: x\nConclusion: STOP\nConclusion: CONTINUE",
            Verdict(stop=False, analysis="x\nConclusion: STOP"),
        ),
        ("", Verdict(stop=False, analysis="", parsed=False)),
        ("We must not stop.", Verdict(stop=False, analysis="We must not stop.", parsed=False)),
        (
            "Conclusion: STOPPING is wrong",
            Verdict(stop=False, analysis="Conclusion: STOPPING is wrong", parsed=False),
        ),
        ("The conclusion: STOP", Verdict(stop=True, analysis="")),
    ],
)
def test_the_last_conclusion_decides(text, verdict):
    assert parse_verdict(text) == verdict


@quick
@given(TEXT)
def test_any_text_is_a_verdict_and_only_a_conclusion_stops(text):
    verdict = parse_verdict(text)
    if verdict.stop:
        assert verdict.parsed
        assert "conclusion" in text.lower()


# ---- hostile text ----

SIZE = 200_000
HOSTILE = {
    "braces": "{" * SIZE,
    "open objects": '{"a":' * (SIZE // 5),
    "open objects and strings": '{"a":"' * (SIZE // 6),
    "quoted braces": '{"' * (SIZE // 2),
    "lists": "[" * SIZE,
    "endless number": '{"a":' + "1" * SIZE,
    "escapes": '{"a":"' + "\\" * SIZE,
    "fences": "```\n" * (SIZE // 4),
    "backticks": "`" * SIZE,
    "blanks": " " * SIZE + "x",
    "lines of blanks": ("\n" + " " * 1000) * (SIZE // 1000),
    "stars": "*" * SIZE,
    "labels in order but the last": "Justification: x" + "\nContext: a\nSub-goal: b" * (SIZE // 24),
    "one label": "Justification: x" + "\nContext: " * (SIZE // 10),
    "conclusions": "Analysis: x" + "\nConclusion: STOP x" * (SIZE // 19),
    "colons": "analysis" + ":" * SIZE + "\nConclusion: STOP",
    "deep objects again and again": ('{"a":' * 900 + "[") * 40,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_read_in_little_time(name):
    """Quadratic work on 200,000 characters takes minutes; linear work takes milliseconds. In a
    process of its own, because a regular expression cannot be interrupted."""
    program = (
        "import sys; from agentflow_verl.flow.parse import *; from agentflow_verl.core.errors"
        " import MalformedOutput\ntext = sys.stdin.read()\nfor parse in (parse_plan, parse_verdict,"
        " lambda text: parse_arguments(text, {})):\n    try: parse(text)\n    except"
        " MalformedOutput: pass\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-S", "-c", program]
    subprocess.run(command, input=HOSTILE[name], text=True, env=environment, timeout=20, check=True)
