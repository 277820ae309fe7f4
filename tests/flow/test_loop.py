"""Every way a trajectory can go, with engines and tools that follow a script."""

from __future__ import annotations

import asyncio
import re

import pytest

from agentflow_verl.config.limits import Limits
from agentflow_verl.core.errors import InfraError, MalformedOutput
from agentflow_verl.flow.loop import Flow
from agentflow_verl.flow.modules import MODULES
from agentflow_verl.tools.types import ToolResult
from agentflow_verl.trajectories.records import Mistake, Outcome, Trajectory
from tests.flow.fakes import (
    ANSWER,
    CALL,
    CONTINUE,
    PLAN,
    PYTHON,
    STOP,
    Hang,
    ScriptedEngine,
    ScriptedTools,
    engines,
    flow,
)

QUERY = "What is 2 * 2?"
SOON = Limits(time_budget_s=0.15)


async def run(flow: Flow, query: str = QUERY) -> Trajectory:
    """Run, and check what holds for every trajectory: it is a record that survives JSON."""
    trajectory = await flow.run(query, "t0")
    assert Trajectory.model_validate_json(trajectory.model_dump_json()) == trajectory
    assert [turn.index for turn in trajectory.turns] == list(range(len(trajectory.turns)))
    assert trajectory.timings["total"] >= 0
    if isinstance(flow.tools, ScriptedTools):
        assert (
            len(set(flow.tools.ended)) == 1
        )  # what servers keep for it ends with it, however it ends
        flow.tools.ended.clear()
    return trajectory


async def test_every_call_notes_when_it_began():
    """In seconds since the trajectory began: the calls of a trajectory follow each other, inside
    its total.
    """
    trajectory = await run(flow(verifier=[CONTINUE, STOP]))
    analyst, generator = trajectory.replies
    calls = [(analyst.started, analyst.seconds)]
    for turn in trajectory.turns:
        planner, executor, verifier = turn.replies
        calls += [
            (planner.started, planner.seconds),
            (executor.started, executor.seconds),
            (turn.result.started, 0.0),
        ]
        calls.append((verifier.started, verifier.seconds))
    calls.append((generator.started, generator.seconds))
    for (start, seconds), (following, _) in zip(calls, calls[1:]):
        assert 0 <= start <= start + seconds <= following <= trajectory.timings["total"]


# ---- endings ----


async def test_stop_ends_the_turns_and_the_generator_answers():
    trajectory = await run(flow(verifier=[CONTINUE, STOP]))
    assert trajectory.outcome is Outcome.ANSWERED
    assert trajectory.answer == "4"
    assert trajectory.analysis == "Double it."
    assert trajectory.error is None
    first, second = trajectory.turns
    assert (first.verdict.stop, second.verdict.stop) == (False, True)
    assert second.plan.tool == "python_coder"
    assert second.call.arguments == {"code": "print(2 * 2)"}
    assert second.result.text == "4"


async def test_the_turn_limit_still_gives_an_answer():
    trajectory = await run(flow(verifier=CONTINUE, limits=Limits(max_turns=3)))
    assert trajectory.outcome is Outcome.OUT_OF_TURNS
    assert trajectory.answer == "4"
    assert len(trajectory.turns) == 3


async def test_the_planner_is_told_how_many_turns_are_left_where_the_option_says_so():
    agent = flow(verifier=CONTINUE, limits=Limits(max_turns=3, turns_left=True))
    await run(agent)
    prompts = [messages[1]["content"] for messages in agent.engines["planner"].seen]
    for left, prompt in zip((3, 2, 1), prompts, strict=True):
        assert f"(turns left: {left})" in prompt
    agent = flow(verifier=CONTINUE, limits=Limits(max_turns=3))
    await run(agent)
    assert all("left" not in messages[1]["content"] for messages in agent.engines["planner"].seen)


async def test_the_planners_tokens_are_kept_as_they_came():
    trajectory = await run(flow())
    tokens = trajectory.turns[0].tokens
    assert "".join(map(chr, tokens.response_ids)) == PLAN
    assert len(tokens.logprobs) == len(PLAN)
    assert (tokens.weights_first, tokens.weights_last) == (3, 4)


@pytest.mark.parametrize("module", MODULES)
async def test_out_of_time_in_each_module_cancels_the_call_and_keeps_the_finished_turns(module):
    usual = {
        "analyst": "Double it.",
        "planner": PLAN,
        "executor": CALL,
        "verifier": CONTINUE,
        "generator": ANSWER,
    }
    script = [Hang] if module in ("analyst", "generator") else [usual[module], Hang]
    agent = flow(
        limits=Limits(time_budget_s=0.15, max_turns=2), **{"verifier": CONTINUE, module: script}
    )
    trajectory = await run(agent)
    assert trajectory.outcome is Outcome.OUT_OF_TIME
    assert trajectory.answer == ""
    assert module in trajectory.error
    assert agent.engines[module].cancelled == 1
    finished = {"analyst": 0, "planner": 1, "executor": 1, "verifier": 1, "generator": 2}[module]
    assert sum(turn.verdict is not None for turn in trajectory.turns) == finished
    if finished:
        assert trajectory.turns[0].result.text == "4"


async def test_out_of_time_in_a_tool_cancels_the_call_and_keeps_the_finished_turns():
    tools = ScriptedTools("4", Hang)
    trajectory = await run(flow(tools, SOON, verifier=CONTINUE))
    assert trajectory.outcome is Outcome.OUT_OF_TIME
    assert tools.cancelled == 1
    first, cut = trajectory.turns
    assert first.verdict is not None
    assert cut.plan is not None and cut.call is not None and cut.tokens is not None
    assert cut.result is None and cut.verdict is None
    assert trajectory.timings["tools"] >= 0.05


async def test_a_turn_cut_in_the_verifier_keeps_its_result():
    trajectory = await run(flow(limits=SOON, verifier=Hang))
    (turn,) = trajectory.turns
    assert turn.result.text == "4"
    assert turn.verdict is None
    assert [reply.module for reply in turn.replies] == ["planner", "executor"]


@pytest.mark.parametrize("module", MODULES)
async def test_a_fault_in_each_module_is_an_infra_error(module):
    trajectory = await run(flow(**{module: InfraError(f"the {module}'s server is gone")}))
    assert trajectory.outcome is Outcome.INFRA_ERROR
    assert not trajectory.outcome.valid
    assert trajectory.error == f"the {module}'s server is gone"


async def test_a_fault_in_a_tool_is_an_infra_error():
    trajectory = await run(
        flow(ScriptedTools("4", InfraError("tool server down")), verifier=CONTINUE)
    )
    assert trajectory.outcome is Outcome.INFRA_ERROR
    assert trajectory.error == "tool server down"
    assert len(trajectory.turns) == 2


async def test_cancelling_a_trajectory_cancels_what_runs():
    agent = flow(executor=Hang)
    task = asyncio.create_task(agent.run(QUERY, "t0"))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert agent.engines["executor"].cancelled == 1


# ---- the model's mistakes are observations ----


async def test_a_malformed_plan_is_shown_to_the_planner_which_recovers():
    agent = flow(planner=["I would rather not say.", PLAN])
    trajectory = await run(agent)
    assert trajectory.outcome is Outcome.ANSWERED
    bad, good = trajectory.turns
    assert bad.plan is None and bad.call is None and bad.verdict is None
    assert bad.tokens is not None
    assert "Tool: line" in bad.error
    shown = agent.engines["planner"].seen[1][1]["content"]
    assert "Nothing was done: the plan could not be read." in shown
    assert bad.mistake is Mistake.UNREADABLE_PLAN and good.mistake is None
    assert good.verdict.stop
    assert len(agent.engines["verifier"].seen) == 1, "a turn without a plan has nothing to verify"


async def test_only_malformed_plans_are_malformed_and_nobody_answers():
    agent = flow(planner="hm", limits=Limits(max_turns=2))
    trajectory = await run(agent)
    assert trajectory.outcome is Outcome.MALFORMED
    assert trajectory.answer == ""
    assert "no turn had a readable plan" in trajectory.error
    assert len(trajectory.turns) == 2
    assert not agent.engines["generator"].seen


async def test_one_readable_plan_is_enough_to_run_out_of_turns():
    trajectory = await run(
        flow(planner=[PLAN, "hm"], verifier=CONTINUE, limits=Limits(max_turns=2))
    )
    assert trajectory.outcome is Outcome.OUT_OF_TURNS


async def test_an_unknown_tool_is_named_with_the_tools_there_are():
    tools = ScriptedTools()
    trajectory = await run(
        flow(
            tools,
            planner=[PLAN.replace("python_coder", "calculator"), PLAN],
            verifier=[CONTINUE, STOP],
        )
    )
    first = trajectory.turns[0]
    assert "calculator" in first.error and "python_coder, wikipedia_search" in first.error
    assert first.mistake is Mistake.UNKNOWN_TOOL
    assert first.known_tools == ("python_coder", "wikipedia_search")
    assert first.call is None
    assert first.verdict is not None
    assert trajectory.outcome is Outcome.ANSWERED
    assert len(tools.calls) == 1


async def test_a_plan_without_a_step_is_used_and_what_was_supplied_is_recorded():
    trajectory = await run(flow(planner="Justification: a value is missing\nTool: python_coder"))
    plan = trajectory.turns[0].plan
    assert (plan.sub_goal, plan.tool) == ("a value is missing", "python_coder")
    assert plan.supplied == ("context", "sub_goal")
    assert trajectory.turns[0].call.tool == "python_coder"


async def test_a_plan_without_a_tool_is_used_where_there_is_only_one():
    tools = ScriptedTools(specs=(PYTHON,))
    trajectory = await run(flow(tools, planner="Justification: a\nContext: b\nSub-goal: add"))
    assert trajectory.turns[0].plan.tool == "python_coder"
    assert trajectory.turns[0].plan.supplied == ("tool",)


async def test_frozen_modules_are_asked_under_a_schema_and_the_planner_is_not():
    agent = flow()
    await run(agent)
    asked = {module: engine.schemas[0] for module, engine in agent.engines.items()}
    assert asked["planner"] is None
    assert asked["executor"] == PYTHON.parameters
    assert list(asked["analyst"]["properties"]) == ["analysis"]
    assert list(asked["verifier"]["properties"]) == ["analysis", "conclusion"]
    assert list(asked["generator"]["properties"]) == ["reason", "answer"]


async def test_replies_under_a_schema_and_reasoning_before_them_are_read():
    agent = flow(
        analyst='<think>hm</think>{"analysis": "Double it."}',
        planner=f"<think>Tool: hammer</think>\n{PLAN}",
        verifier='{"analysis": "it is there", "conclusion": "STOP"}',
        generator='{"reason": "It follows from 4.", "answer": "4"}',
    )
    trajectory = await run(agent)
    assert (trajectory.analysis, trajectory.answer) == ("Double it.", "4")
    assert trajectory.turns[0].verdict.analysis == "it is there"
    assert trajectory.replies[0].text.startswith("<think>")


async def test_a_tools_name_may_be_spelled_with_spaces_and_capitals():
    trajectory = await run(flow(planner=PLAN.replace("python_coder", "Python Coder")))
    assert trajectory.turns[0].call.tool == "python_coder"


async def test_arguments_that_are_not_json_are_an_observation():
    tools = ScriptedTools()
    trajectory = await run(
        flow(
            tools,
            executor="print 2*2 please",
            verifier=[CONTINUE, STOP],
            limits=Limits(max_turns=2),
        )
    )
    assert "not a JSON object" in trajectory.turns[0].error
    assert trajectory.turns[0].plan is not None and trajectory.turns[0].call is None
    assert not tools.calls


async def test_a_call_that_was_cut_off_says_so():
    agent = flow(executor='{"code": "' + "import math; " * 20, verifier=STOP)
    agent.engines["executor"].reply_limit = 100
    [turn] = (await run(agent)).turns
    assert turn.error == "the call was cut off at 100 tokens; a shorter one is needed"
    assert turn.mistake is Mistake.UNUSABLE_CALL and turn.call is None


async def test_arguments_that_the_tool_refuses_are_an_observation():
    tools = ScriptedTools(MalformedOutput("python_coder: argument 'code' is missing"), "4")
    trajectory = await run(flow(tools, executor=['{"cod": 1}', CALL], verifier=[CONTINUE, STOP]))
    refused, done = trajectory.turns
    assert refused.error == "python_coder: argument 'code' is missing"
    assert refused.call.arguments == {"cod": 1} and refused.result is None
    assert done.result.text == "4" and done.error is None
    assert trajectory.outcome is Outcome.ANSWERED


async def test_an_error_inside_the_tools_contract_is_an_observation():
    failed = ToolResult(
        tool="python_coder",
        text="ZeroDivisionError",
        is_error=True,
        truncated=True,
        seconds=1.5,
        attempts=2,
    )
    agent = flow(ScriptedTools(failed, "4"), verifier=[CONTINUE, STOP])
    trajectory = await run(agent)
    result = trajectory.turns[0].result
    assert (result.text, result.is_error, result.truncated) == ("ZeroDivisionError", True, True)
    assert (result.seconds, result.attempts) == (1.5, 2)
    assert "Error: ZeroDivisionError" in agent.engines["planner"].seen[1][1]["content"]


async def test_a_verdict_that_cannot_be_read_counts_as_continue():
    trajectory = await run(flow(verifier=["Do not stop here!", STOP]))
    first, second = trajectory.turns
    assert not first.verdict.stop and not first.verdict.parsed
    assert first.verdict.analysis == "Do not stop here!"
    assert second.verdict.parsed
    assert trajectory.outcome is Outcome.ANSWERED


@pytest.mark.parametrize("text", ["", "  \n ", "<answer></answer>", "<answer> </answer>"])
async def test_an_empty_answer_is_malformed(text):
    trajectory = await run(flow(planner=["hm", PLAN], generator=text))
    assert trajectory.outcome is Outcome.MALFORMED
    assert trajectory.error == "the generator gave no answer"
    assert trajectory.turns[-1].verdict.stop


async def test_an_empty_answer_after_a_late_bad_plan_blames_the_generator():
    trajectory = await run(
        flow(planner=[PLAN, "hm"], verifier=CONTINUE, generator="", limits=Limits(max_turns=2))
    )
    assert trajectory.error == "the generator gave no answer"


async def test_model_and_tool_text_that_no_utf8_can_hold_is_made_well_formed():
    tools = ScriptedTools("half a pair \ud83d, a pair \ud83d\ude00")
    trajectory = await run(flow(tools, executor=r'{"code": "\ud83d", "\udc00": "\ud83d\ude00"}'))
    assert trajectory.turns[0].call.arguments == {"code": "\ufffd", "\ufffd": "\U0001f600"}
    assert trajectory.turns[0].result.text == "half a pair \ufffd, a pair \U0001f600"


async def test_arguments_too_deep_for_the_record_are_an_observation():
    trajectory = await run(flow(executor='{"code": ' + "[" * 300 + "]" * 300 + "}", verifier=STOP))
    assert "nested" in trajectory.turns[0].error
    assert trajectory.turns[0].call is None


# ---- engines ----


@pytest.mark.parametrize("module", MODULES)
async def test_each_slot_is_answered_by_the_engine_chosen_for_it(module):
    agent = flow()
    chosen = ScriptedEngine("the chosen one", *agent.engines[module].steps)
    agent.engines[module] = chosen
    trajectory = await run(agent)
    assert trajectory.outcome is Outcome.ANSWERED
    assert {reply.module: reply.engine for reply in trajectory.all_replies()} == {
        other: "the chosen one" if other == module else f"engine of the {other}"
        for other in MODULES
    }
    assert chosen.trajectories == ["t0"]


async def test_each_call_is_recorded_where_it_belongs():
    trajectory = await run(flow(verifier=[CONTINUE, STOP]))
    assert [reply.module for reply in trajectory.replies] == ["analyst", "generator"]
    for turn in trajectory.turns:
        assert [reply.module for reply in turn.replies] == ["planner", "executor", "verifier"]
    assert set(trajectory.timings) == {*MODULES, "tools", "total"}


# ---- isolation ----


async def test_fifty_trajectories_at_once_never_see_each_other():
    """Every engine and tool echoes its own question; no prompt may hold another's."""

    def echo(text: str):
        return lambda messages: text.replace(
            "$q", re.search(r"q\d+q", messages[1]["content"]).group()
        )

    shared = engines(
        analyst=echo("analysis of $q"),
        planner=echo("Justification: for $q\nContext: $q\nSub-goal: solve $q\nTool: python_coder"),
        executor=echo('{"code": "$q"}'),
        verifier=echo("Analysis: $q\nConclusion: CONTINUE"),
        generator=echo("<answer>$q</answer>"),
    )
    tools = ScriptedTools(lambda arguments: f"result of {arguments['code']}")
    agent = Flow(shared, tools, Limits(max_turns=3))
    names = [f"q{number}q" for number in range(50)]
    trajectories = await asyncio.gather(
        *(agent.run(f"question {name}", f"t-{name}") for name in names)
    )
    for name, trajectory in zip(names, trajectories):
        assert trajectory.answer == name
        assert set(re.findall(r"q\d+q", trajectory.model_dump_json())) == {name}
    for engine in shared.values():
        for messages, trajectory in zip(engine.seen, engine.trajectories):
            assert set(re.findall(r"q\d+q", str(messages))) == {trajectory.removeprefix("t-")}


# ---- prompts that are too long ----


def long_results(words: int) -> ScriptedTools:
    return ScriptedTools(" ".join(f"w{number}" for number in range(words)))


async def test_a_prompt_that_is_too_long_gets_less_of_the_memory():
    agent = flow(long_results(400), Limits(max_turns=2, memory_tokens=1000), verifier=CONTINUE)
    agent.engines["planner"] = ScriptedEngine("policy", PLAN, prompt_limit=250)
    trajectory = await run(agent)
    assert trajectory.outcome is Outcome.OUT_OF_TURNS
    seen = [len(messages[1]["content"]) for messages in agent.engines["planner"].seen]
    assert seen[1] > seen[-1], "the second turn was asked again, with a shorter memory"
    assert "Sub-goal: double x" in agent.engines["planner"].seen[-1][1]["content"]
    assert trajectory.turns[0].result.text.endswith("w399"), (
        "the record keeps what the prompt left out"
    )


async def test_a_prompt_too_long_without_any_memory_is_an_infra_error():
    agent = flow(long_results(400))
    agent.engines["verifier"] = ScriptedEngine("base", STOP, prompt_limit=20)
    trajectory = await run(agent)
    assert trajectory.outcome is Outcome.INFRA_ERROR
    assert "the limit is 20" in trajectory.error
    assert len(agent.engines["verifier"].seen) == 4
    assert trajectory.turns[0].result is not None
