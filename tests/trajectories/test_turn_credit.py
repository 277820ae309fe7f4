"""How success depends on what a turn did, by hand and by what must hold for any records."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.trajectories.records import Call, Mistake, Plan, Result, Turn, Verdict
from agentflow_verl.trajectories.run_folder import Run, attempts_of
from agentflow_verl.trajectories.turn_credit import (
    Attempt,
    TurnChoices,
    choices_of,
    turn_credit,
)
from tests.view.logs import RUN, groups

PLAN = Plan(justification="", context="", sub_goal="s", tool="search")
CALL = Call(tool="search", arguments={})


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({}, ("none", "none", "none")),
        (
            {"plan": PLAN, "call": CALL, "result": Result(text="")},
            ("search", "none", "none"),
        ),
        (
            {"call": CALL, "result": Result(text="", is_error=True)},
            ("search", "none", "tool_error"),
        ),
        (
            {"plan": PLAN, "error": "no such tool", "mistake": Mistake.UNKNOWN_TOOL},
            ("none", "none", "unknown_tool"),
        ),
        ({"call": CALL, "error": "out of time"}, ("none", "none", "other")),
        ({"verdict": Verdict(stop=True, analysis="")}, ("none", "stop", "none")),
        ({"verdict": Verdict(stop=False, analysis="")}, ("none", "continue", "none")),
        (
            {"verdict": Verdict(stop=False, analysis="", parsed=False)},
            ("none", "unreadable", "none"),
        ),
    ],
)
def test_a_turn_is_one_word_for_each_aspect(parts, expected):
    choices = choices_of(Turn(index=0, **parts))
    assert (choices.tool, choices.verdict, choices.error) == expected


def attempt(group: str, success: bool, *tools: str, question: str | None = None) -> Attempt:
    return Attempt(group, question or group, success, [TurnChoices(tool=tool) for tool in tools])


def tools_of(attempts: list[Attempt]) -> dict[tuple[int, str], tuple]:
    found = {}
    for credit in turn_credit(attempts):
        if credit.aspect == "tool":
            figures = (credit.trajectories, credit.success, credit.difference, credit.groups)
            found[credit.turn, credit.choice] = figures
    return found


def test_an_easy_question_makes_no_tool_look_good():
    """All that asks the easy question searches, all that asks the hard one computes."""
    easy = [attempt("easy", True, "search") for _ in range(4)]
    hard = [attempt("hard", False, "compute") for _ in range(4)]
    assert tools_of(easy + hard) == {
        (1, "compute"): (4, 0.0, None, 0),
        (1, "search"): (4, 1.0, None, 0),
    }


def test_the_difference_is_the_mean_over_groups_in_which_both_were_done():
    first = [
        attempt("a", True, "search", "compute"),
        attempt("a", True, "search"),
        attempt("a", False, "search", "search"),
        attempt("a", False, "compute"),
    ]
    second = [attempt("b", True, "compute"), attempt("b", False, "search")]
    third = [attempt("c", True, "compute")]
    found = tools_of(first + second + third)
    # Group a: 2/3 - 1/2 for search, 0 - 1/2 for compute; group b: -1/2 and +1/2; c has only one.
    assert found[1, "search"] == (4, 0.5, pytest.approx((1 / 6 - 1 / 2) / 2), 2)
    assert found[1, "compute"] == (3, pytest.approx(2 / 3), pytest.approx(0.0), 2)
    # In turn 2 only those that reached it are compared.
    assert found[2, "compute"] == (1, 1.0, 0.5, 1)
    assert found[2, "search"] == (1, 0.0, -0.5, 1)


def test_groups_of_one_question_are_one_of_the_sample():
    """A question that was asked in many steps says no more of other questions than it does."""
    attempts = [
        attempt("other", True, "search"),
        attempt("other", False, "compute"),
    ]
    for step in range(3):
        attempts += [
            attempt(f"step {step}", False, "search", question="asked in every step"),
            attempt(f"step {step}", True, "compute", question="asked in every step"),
        ]
    [found] = [credit for credit in turn_credit(attempts) if credit.choice == "search"]
    assert found.groups == 4
    assert found.differences == (-0.5, 0.5)
    assert found.difference == 0.0


def test_most_frequent_first_and_turn_by_turn():
    attempts = [
        attempt("a", True, "search", "compute"),
        attempt("a", False, "compute"),
        attempt("a", False, "compute"),
    ]
    order = [(credit.turn, credit.aspect, credit.choice) for credit in turn_credit(attempts)]
    assert order == [
        (1, "tool", "compute"),
        (1, "tool", "search"),
        (1, "verdict", "none"),
        (1, "error", "none"),
        (2, "tool", "compute"),
        (2, "verdict", "none"),
        (2, "error", "none"),
    ]


TURNS = st.builds(
    TurnChoices,
    tool=st.sampled_from(("search", "compute", "none")),
    verdict=st.sampled_from(("stop", "continue")),
    error=st.sampled_from(("none", "tool_error")),
)


def of_two_questions(group: int, success: bool, turns: list[TurnChoices]) -> Attempt:
    return Attempt(group, group % 2, success, turns)


ATTEMPTS = st.lists(
    st.builds(
        of_two_questions,
        group=st.integers(0, 3),
        success=st.booleans(),
        turns=st.lists(TURNS, max_size=3),
    ),
    max_size=24,
)


@given(ATTEMPTS, st.randoms())
def test_the_order_of_trajectories_does_not_matter(attempts, chance):
    shuffled = list(attempts)
    chance.shuffle(shuffled)
    assert turn_credit(shuffled) == turn_credit(attempts)


@given(ATTEMPTS)
def test_differences_weighted_by_counts_are_zero_within_a_group(attempts):
    by_group = defaultdict(list)
    for one in attempts:
        by_group[one.group].append(one)
    for members in by_group.values():
        totals = defaultdict(float)
        for credit in turn_credit(members):
            totals[credit.turn, credit.aspect] += credit.trajectories * (credit.difference or 0.0)
        assert all(total == pytest.approx(0.0, abs=1e-9) for total in totals.values())


@given(ATTEMPTS)
def test_every_trajectory_that_reached_a_turn_is_counted_once_in_each_aspect(attempts):
    for number in (1, 2, 3):
        reached = sum(len(one.turns) >= number for one in attempts)
        for aspect in ("tool", "verdict", "error"):
            counts = [
                credit.trajectories
                for credit in turn_credit(attempts)
                if (credit.turn, credit.aspect) == (number, aspect)
            ]
            assert sum(counts) == reached


def test_a_recorded_run_is_compared_within_the_groups_of_its_log():
    run = Run(RUN)
    run.refresh()
    entries = [entry for entry in run.entries if entry.split == "train"]
    found = {
        credit.choice: credit
        for credit in turn_credit(attempts_of(entries))
        if (credit.turn, credit.aspect) == (1, "tool")
    }
    expected = defaultdict(lambda: defaultdict(list))
    for (split, _, _), members in groups().items():
        if split != "train":
            continue
        chosen = defaultdict(list)
        for line in members:
            if line["reward"] is None:
                continue
            [first, *_] = line["trajectory"]["turns"]
            done = first["call"] and first["result"]
            chosen[first["call"]["tool"] if done else "none"].append(line["reward"])
        everyone = [reward for rewards in chosen.values() for reward in rewards]
        if len(chosen) > 1:
            for tool, rewards in chosen.items():
                mean = sum(everyone) / len(everyone)
                query = members[0]["trajectory"]["query"]
                expected[tool][query].append(sum(rewards) / len(rewards) - mean)
    assert expected
    for tool, questions in expected.items():
        means = sorted(sum(each) / len(each) for each in questions.values())
        assert found[tool].differences == pytest.approx(means)
