"""The templates: complete, the same for every question up front, what changes last."""

from __future__ import annotations

import dataclasses
import os
import re
from importlib.resources import files
from pathlib import Path
from string import Template

import pytest

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.flow import prompts
from agentflow_verl.flow.modules import MODULES
from tests.engines import tokenizers
from tests.flow.fakes import PYTHON, SEARCH, ScriptedTools, flow

FIELDS = {
    "analyst": {"query", "tools"},
    "planner": {"query", "tools", "analysis", "memory", "turns_left_note", "tool_names"},
    "executor": {"query", "description", "schema", "context", "sub_goal", "form"},
    "verifier": {"query", "memory"},
    "generator": {"query", "memory"},
}
CHANGING = {  # the fields of the user's part, what stays longest first
    "analyst": ["query"],
    "planner": ["query", "analysis", "memory", "turns_left_note", "tool_names"],
    "executor": ["query", "context", "sub_goal", "form"],
    "verifier": ["query", "memory"],
    "generator": ["query", "memory"],
}


def fields_of(text: str) -> list[str]:
    return re.findall(r"\$\{?(\w+)", text)


@pytest.mark.parametrize("module", MODULES)
def test_every_template_renders_with_its_fields_and_no_field_is_left(module):
    marked = {name: f"<{name}>" for name in FIELDS[module]}
    messages = prompts.load(module).render(**marked)
    assert [message["role"] for message in messages] == ["system", "user"]
    text = "".join(message["content"] for message in messages)
    assert all(mark in text for mark in marked.values())
    assert "$" not in text


@pytest.mark.parametrize("module", MODULES)
def test_a_missing_field_is_an_error_and_not_an_empty_string(module):
    for name in FIELDS[module]:
        rest = {other: "x" for other in FIELDS[module] if other != name}
        with pytest.raises(KeyError, match=name):
            prompts.load(module).render(**rest)


@pytest.mark.parametrize("module", MODULES)
def test_the_part_that_changes_comes_last(module):
    prompt = prompts.load(module)
    assert fields_of(prompt.user.template) == CHANGING[module]
    fixed = {"tools", "tool", "description", "schema"}
    assert set(fields_of(prompt.system.template)) <= fixed
    tail = prompt.user.template.rsplit("\n\n", 1)[1]
    assert len(tail) < 330  # what a prefix cache cannot serve
    assert module == "planner" or tail.startswith("Reply ")


@pytest.mark.parametrize("module", MODULES)
def test_a_question_with_dollars_and_dashes_arrives_unchanged(module):
    query = "Is $5 more than ${tools} or $$?\n---\nNo."
    fields = {name: "x" for name in FIELDS[module]} | {"query": query}
    assert query in prompts.load(module).render(**fields)[1]["content"]


# ---- a user's own ----


def write(folder: Path, **templates: str) -> Path:
    for module, text in templates.items():
        (folder / f"{module}.md").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "text", ["100% of %s, %(query)s, %%", "$$5", "$$query", "${query}s", "$query%"]
)
def test_a_template_is_filled_in_as_the_standard_library_does_it(text):
    prompt = prompts.Prompt.parse(f"{text}\n---\n{text}")
    filled = Template(text).substitute(query="50% of $x")
    assert [m["content"] for m in prompt.render(query="50% of $x")] == [filled, filled]


def test_a_dollar_that_begins_no_field_is_an_error():
    with pytest.raises(ValueError, match="line 1"):
        prompts.Prompt.parse("$5\n---\nno").render()


def test_files_of_a_folder_replace_their_templates_and_no_other(tmp_path):
    own = "Plan with\n$tools\n---\n$query\n\n${memory}, $turns_left left, $$5"
    used = prompts.Prompts.from_folder(write(tmp_path, planner=own, README="of $5"))
    fields = {"tools": "- a", "query": "Why?", "memory": "None yet.", "turns_left": "2"}
    assert [message["content"] for message in used["planner"].render(**fields)] == [
        "Plan with\n- a",
        "Why?\n\nNone yet., 2 left, $5",
    ]
    for module in set(MODULES) - {"planner"}:
        assert used[module] == prompts.load(module)
    assert used["planner"].shows_memory


def test_the_digest_is_that_of_the_texts(tmp_path):
    shipped = prompts.Prompts.shipped()
    assert prompts.Prompts.from_folder(None).digest == shipped.digest
    text = files("agentflow_verl.flow.prompts").joinpath("planner.md").read_text(encoding="utf-8")
    assert prompts.Prompts.from_folder(write(tmp_path, planner=text)).digest == shipped.digest
    other = prompts.Prompts.from_folder(write(tmp_path, planner=text + "Now."))
    assert other.digest != shipped.digest


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("planner", "P\n---\n$query $tools $memry", "no field $memry; did you mean 'memory'?"),
        ("planner", "P\n---\n$query $tools", "the field $memory is missing"),
        ("planner", "P $tools $query $memory", "there is no line '---'"),
        ("planner", "P\n---\n$tools $query $memory\ncosts $5", "a $ without a field's name"),
        ("analyst", "P\n---\n$query $tools $memory", "the analyst has no field $memory"),
        ("executor", "P\n---\n$sub_goal", "the field $schema is missing"),
        ("plannner", "P\n---\n$query", "no module is called 'plannner'; did you mean 'planner'?"),
    ],
)
def test_a_wrong_template_is_refused_with_its_file_and_field(tmp_path, name, text, said):
    with pytest.raises(ConfigError) as refused:
        prompts.Prompts.from_folder(write(tmp_path, **{name: text}))
    message = str(refused.value)
    assert message.startswith(f"agentflow.prompts: {tmp_path}/{name}.md: ")
    assert said in message and "\n" not in message


def test_a_folder_without_templates_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="has none of analyst.md, planner.md"):
        prompts.Prompts.from_folder(tmp_path)
    with pytest.raises(ConfigError, match="there is no folder"):
        prompts.Prompts.from_folder(tmp_path / "missing")


async def test_the_system_part_is_the_same_for_all_trajectories_and_turns():
    agent = flow(verifier=["Conclusion: CONTINUE", "Conclusion: CONTINUE", "Conclusion: STOP"])
    await agent.run("What is 2 * 2?", "t0")
    await agent.run("Who wrote it?", "t1")
    for module in MODULES:
        systems = {messages[0]["content"] for messages in agent.engines[module].seen}
        assert len(systems) == 1, module
        assert "2 * 2" not in systems.pop()


async def test_planner_prompts_of_one_trajectory_share_all_but_their_end():
    agent = flow(ScriptedTools("4"), verifier="Conclusion: CONTINUE")
    await agent.run("What is 2 * 2?", "t0")
    first, second, third = (messages[1]["content"] for messages in agent.engines["planner"].seen)
    known = second.index("\n\nWrite the plan")
    assert third.startswith(second[:known])
    start = first.index("None yet.")
    assert second.startswith(first[:start])


@pytest.mark.parametrize("module", ["planner", "verifier"])
async def test_consecutive_prompts_of_a_module_begin_with_the_same_tokens(module):
    """What a prefix cache can serve: all of the earlier prompt but its last lines and the mark
    where the reply begins.
    """
    agent = flow(ScriptedTools("4", "5", "6"), verifier="Conclusion: CONTINUE")
    await agent.run("What is 2 * 2?", "t0")
    tokenizer = tokenizers.make()
    tail = "\n\n" + agent.engines[module].seen[0][1]["content"].rsplit("\n\n", 1)[1]
    prompts_ids = [
        tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        for messages in agent.engines[module].seen
    ]
    end = tokenizer.apply_chat_template(
        [{"role": "user", "content": tail}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=False,
    )
    _, *known = (
        prompts_ids if module == "planner" else (None, *prompts_ids)
    )  # the planner's first shows no turn yet
    for earlier, later in zip(known, known[1:]):
        shared = len(os.path.commonprefix([earlier, later]))
        assert shared >= len(earlier) - len(end)
        assert shared > 0.6 * len(earlier)


async def test_the_tools_are_shown_with_description_and_notes():
    agent = flow(ScriptedTools("4", specs=(PYTHON, SEARCH)))
    await agent.run("What is 2 * 2?", "t0")
    for module in ("analyst", "planner"):
        system = agent.engines[module].seen[0][0]["content"]
        assert "- python_coder: Runs Python. Print what you need." in system
        assert "- wikipedia_search: Finds pages." in system
    executor = agent.engines["executor"].seen[0][0]["content"]
    assert '"required": ["code"]' in executor
    assert "wikipedia_search" not in executor


async def test_the_executor_is_shown_what_the_tool_does_and_not_its_name():
    bare = dataclasses.replace(PYTHON, description="", notes="")
    for spec, shown in ((PYTHON, "Runs Python. Print what you need."), (bare, "python_coder")):
        agent = flow(ScriptedTools("4", specs=(spec,)))
        await agent.run("What is 2 * 2?", "t0")
        system = agent.engines["executor"].seen[0][0]["content"]
        assert f"The tool: {shown}\n" in system
        assert ("python_coder" in system) == (spec is bare)
