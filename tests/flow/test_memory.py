"""What earlier turns did, as the next prompt shows it."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow_verl.flow.memory import CUT, Memory, describe, shorten
from agentflow_verl.trajectories.records import Call, Plan, Result, Turn, Verdict

WORDS = st.text("abc \n", max_size=900)


def words(text: str) -> int:
    return len(text.split())


def plan(sub_goal: str = "double x") -> Plan:
    return Plan(justification="because", context="x = 2", sub_goal=sub_goal, tool="python_coder")


def turn(index: int, result: str = "4", is_error: bool = False, **parts: object) -> Turn:
    whole = {
        "plan": plan(),
        "call": Call(tool="python_coder", arguments={"code": "print('ä')"}),
        "result": Result(text=result, is_error=is_error),
        "verdict": Verdict(stop=False, analysis="not yet"),
    }
    return Turn(index=index, **{**whole, **parts})


@st.composite
def turns(draw: st.DrawFn) -> list[Turn]:
    results = draw(st.lists(WORDS, min_size=1, max_size=5))
    goals = [draw(st.text("xyz ", min_size=1, max_size=30)) for _ in results]
    return [
        turn(index, result, plan=plan(goal))
        for index, (result, goal) in enumerate(zip(results, goals))
    ]


def memory_of(turns: list[Turn], budget: int) -> Memory:
    memory = Memory(budget, words)
    for turn in turns:
        memory.put(turn)
    return memory


def minimal(turns: list[Turn]) -> str:
    return "\n\n".join(describe(turn, 0) for turn in turns)


def test_an_empty_memory_says_so():
    assert Memory(100, words).render() == "None yet."


def test_a_turn_shows_what_was_tried_and_what_came_of_it():
    assert (
        describe(turn(0)) == 'Turn 1\nSub-goal: double x\nTool: python_coder\nArguments: {"code":'
        " \"print('ä')\"}\nResult: 4\nVerdict: CONTINUE. not yet"
    )
    assert "Error: ZeroDivisionError" in describe(turn(0, "ZeroDivisionError", is_error=True))
    assert (
        describe(Turn(index=2, error="the plan has no Tool: line"))
        == "Turn 3\nError: the plan has no Tool: line"
    )


def test_the_same_turn_further_on_replaces_itself():
    memory = Memory(100, words)
    memory.put(turn(0, verdict=None))
    memory.put(turn(0))
    memory.put(turn(1))
    assert [kept.index for kept in memory.turns] == [0, 1]
    assert memory.turns[0].verdict is not None


def test_every_memory_starts_empty():
    memory_of([turn(0)], 100)
    assert Memory(100, words).turns == []


@settings(max_examples=60, deadline=None)
@given(turns(), st.integers(0, 700))
def test_the_budget_holds_or_only_sub_goals_are_left(turns, budget):
    text = memory_of(turns, budget).render()
    assert words(text) <= budget or text == minimal(turns)
    for kept in turns:
        assert f"Turn {kept.index + 1}\n" in text
        assert f"Sub-goal: {kept.plan.sub_goal}" in text


@settings(max_examples=60, deadline=None)
@given(turns(), turns())
def test_while_it_fits_the_text_only_grows_at_its_end(turns, more):
    """So that a server's prefix cache still holds for what was there before."""
    memory = memory_of(turns, 10_000)
    before = memory.render()
    for extra in more:
        memory.put(extra.model_copy(update={"index": extra.index + len(turns)}))
        after = memory.render()
        assert after.startswith(before)
        before = after


def test_the_oldest_results_are_shortened_first():
    long = "word " * 300
    memory = memory_of([turn(0, long), turn(1, long), turn(2, long)], 800)
    first, second, third = memory.render().split("\n\n")
    assert CUT in first and CUT not in third
    assert words(first) < words(third)
    assert "Arguments" in first, "arguments stay while shortening results is enough"


def test_a_smaller_budget_may_be_asked_for_but_never_a_larger_one():
    memory = memory_of([turn(0, "word " * 300)], 200)
    assert words(memory.render(50)) <= 50
    assert memory.render(10_000) == memory.render()
    assert memory.render(0) == minimal(memory.turns)


@given(st.text(max_size=30), st.integers(0, 40))
def test_shortened_text_is_a_marked_prefix(text, limit):
    short = shorten(text, limit)
    assert short == text if len(text) <= limit else short.endswith(CUT)
    assert text.startswith(short.removesuffix(CUT))
    assert shorten(text, None) == text


@pytest.mark.parametrize("slowly", [True, False])
async def test_what_counts_slowly_counts_on_another_thread(slowly):
    here = []

    def count(text: str) -> int:
        here.append(threading.current_thread() is threading.main_thread())
        return len(text.split())

    memory = Memory(300, count, count_in_thread=slowly)
    memory.put(turn(0, "word " * 600))
    text = await memory.rendered(300)
    assert here and set(here) == {not slowly}
    assert text == memory.render()
