"""The templates: complete, the same for every question up front, what changes last."""

from __future__ import annotations

import os
import re

import pytest

from agentflow_verl.flow import prompts
from agentflow_verl.flow.modules import MODULES
from tests.engines import tokenizers
from tests.flow.fakes import PYTHON, SEARCH, ScriptedTools, flow

FIELDS = {
    "analyst": {"query", "tools"},
    "planner": {"query", "tools", "analysis", "memory", "turns_left"},
    "executor": {"query", "tool", "description", "schema", "context", "sub_goal"},
    "verifier": {"query", "analysis", "memory"},
    "generator": {"query", "analysis", "memory"},
}
CHANGING = {  # the fields of the user's part, what stays longest first
    "analyst": ["query"],
    "planner": ["query", "analysis", "memory", "turns_left"],
    "executor": ["query", "context", "sub_goal"],
    "verifier": ["query", "analysis", "memory"],
    "generator": ["query", "analysis", "memory"],
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
    assert set(fields_of(prompt.system.template)) <= {"tools", "tool", "description", "schema"}


@pytest.mark.parametrize("module", MODULES)
def test_a_question_with_dollars_and_dashes_arrives_unchanged(module):
    query = "Is $5 more than ${tools} or $$?\n---\nNo."
    fields = {name: "x" for name in FIELDS[module]} | {"query": query}
    assert query in prompts.load(module).render(**fields)[1]["content"]


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
    known = second.index("\n\nTurns left")
    assert third.startswith(second[:known])
    start = first.index("None yet.")
    assert second.startswith(first[:start])


@pytest.mark.parametrize(("module", "tail"), [("planner", "\n\nTurns left: 2"), ("verifier", "")])
async def test_consecutive_prompts_of_a_module_begin_with_the_same_tokens(module, tail):
    """What a prefix cache can serve: all of the earlier prompt but its last lines and the mark
    where the reply begins.
    """
    agent = flow(ScriptedTools("4", "5", "6"), verifier="Conclusion: CONTINUE")
    await agent.run("What is 2 * 2?", "t0")
    tokenizer = tokenizers.make()
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
        assert shared > 0.8 * len(earlier)


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
