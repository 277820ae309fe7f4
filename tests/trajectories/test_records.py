"""Trajectories go to JSON and back without loss, cannot be changed, and refuse what they do not
know.
"""

from __future__ import annotations

import json
import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from agentflow_verl.trajectories.records import (
    Call,
    ModuleReply,
    Outcome,
    Plan,
    Result,
    Tokens,
    Trajectory,
    Turn,
    Verdict,
)

TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=20)  # all that UTF-8 can hold
NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
COUNT = st.integers(0, 2**40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
REPLIES = st.lists(
    st.builds(
        ModuleReply,
        module=TEXT,
        engine=TEXT,
        text=TEXT,
        prompt_tokens=COUNT,
        response_tokens=COUNT,
        cached_tokens=st.none() | COUNT,
        seconds=NUMBERS,
        started=st.none() | NUMBERS,
        cut=st.booleans(),
    ),
    max_size=2,
).map(tuple)
IDS = st.lists(COUNT, max_size=4).map(tuple)
TURNS = st.builds(
    Turn,
    index=COUNT,
    plan=st.none() | st.builds(Plan, justification=TEXT, context=TEXT, sub_goal=TEXT, tool=TEXT),
    call=st.none() | st.builds(Call, tool=TEXT, arguments=st.dictionaries(TEXT, JSON, max_size=3)),
    result=st.none()
    | st.builds(
        Result,
        text=TEXT,
        is_error=st.booleans(),
        truncated=st.booleans(),
        seconds=NUMBERS,
        started=st.none() | NUMBERS,
        attempts=COUNT,
    ),
    verdict=st.none() | st.builds(Verdict, stop=st.booleans(), analysis=TEXT, parsed=st.booleans()),
    error=st.none() | TEXT,
    tokens=st.none()
    | st.builds(
        Tokens,
        prompt_ids=IDS,
        response_ids=IDS,
        logprobs=st.lists(NUMBERS, max_size=4).map(tuple),
        weights_first=st.none() | COUNT,
        weights_last=st.none() | COUNT,
    ),
    replies=REPLIES,
)
TRAJECTORIES = st.builds(
    Trajectory,
    id=TEXT,
    query=TEXT,
    analysis=TEXT,
    turns=st.lists(TURNS, max_size=2).map(tuple),
    answer=TEXT,
    outcome=st.sampled_from(Outcome),
    error=st.none() | TEXT,
    timings=st.dictionaries(TEXT, NUMBERS, max_size=2),
    replies=REPLIES,
)


def exact(value: object) -> object:
    """Floats by their bits (every nan is alike), so that -0.0 is not 0.0 and 1 is not 1.0."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("d", value)
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [exact(item) for item in value]
    return (type(value), value)


@settings(max_examples=120, deadline=None)
@given(TRAJECTORIES)
def test_json_and_back_loses_nothing(trajectory):
    line = trajectory.model_dump_json()
    assert "\n" not in line, "one trajectory is one line of the log"
    back = Trajectory.model_validate_json(line)
    assert exact(back.model_dump()) == exact(trajectory.model_dump())
    assert back.outcome is trajectory.outcome
    assert isinstance(back.turns, tuple)


def test_log_probabilities_of_any_kind_survive():
    values = (-0.1, 0.0, -math.inf, math.inf, math.nan, -1e-320, 5e-324, -math.pi)
    tokens = Tokens(prompt_ids=(1,), response_ids=tuple(range(8)), logprobs=values)
    back = Tokens.model_validate_json(tokens.model_dump_json())
    assert exact(back.logprobs) == exact(values)


def test_half_a_surrogate_pair_is_no_text_that_json_can_hold():
    """Hence flow/parse.py and flow/loop.py make foreign text well-formed before they record it."""
    with pytest.raises(ValueError, match="surrogates not allowed"):
        Result(text="\ud83d").model_dump_json()


def test_a_record_from_before_starts_were_noted_still_loads():
    reply = {
        "module": "planner",
        "engine": "policy",
        "text": "",
        "prompt_tokens": 1,
        "response_tokens": 1,
        "seconds": 0.5,
    }
    assert ModuleReply.model_validate(reply).started is None
    assert Result.model_validate({"text": "4", "seconds": 0.5}).started is None


def test_other_json_readers_can_read_it():
    trajectory = Trajectory(
        id="a", query="q \u2028 ü 😀", outcome=Outcome.ANSWERED, timings={"total": 1.5}
    )
    assert json.loads(trajectory.model_dump_json())["query"] == "q \u2028 ü 😀"


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (Trajectory(id="a", query="q", outcome=Outcome.ANSWERED), "answer"),
        (Turn(index=0), "plan"),
        (Tokens(prompt_ids=(1,), response_ids=(2,)), "logprobs"),
        (Plan(justification="", context="", sub_goal="", tool=""), "tool"),
        (Verdict(stop=True, analysis=""), "stop"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_records_cannot_be_changed(record, field):
    with pytest.raises(ValidationError, match="frozen"):
        setattr(record, field, "x")


@pytest.mark.parametrize(
    "place", [(), ("turns", 0), ("turns", 0, "plan"), ("turns", 0, "tokens"), ("replies", 0)]
)
def test_an_unknown_key_is_refused_at_every_level(place):
    trajectory = Trajectory(
        id="a",
        query="q",
        outcome=Outcome.ANSWERED,
        turns=(
            Turn(
                index=0,
                plan=Plan(justification="", context="", sub_goal="", tool=""),
                tokens=Tokens(prompt_ids=(), response_ids=()),
            ),
        ),
        replies=(
            ModuleReply(
                module="m", engine="e", text="", prompt_tokens=0, response_tokens=0, seconds=0.0
            ),
        ),
    )
    raw = json.loads(trajectory.model_dump_json())
    part = raw
    for step in place:
        part = part[step]
    part["surprise"] = 1
    with pytest.raises(ValidationError, match="surprise"):
        Trajectory.model_validate(raw)


def test_an_unknown_outcome_is_refused():
    with pytest.raises(ValidationError, match="outcome"):
        Trajectory.model_validate({"id": "a", "query": "q", "outcome": "lucky"})


def test_only_an_infrastructure_fault_is_not_valid():
    assert [outcome for outcome in Outcome if not outcome.valid] == [Outcome.INFRA_ERROR]


def test_all_replies_are_those_of_the_trajectory_and_of_its_turns():
    def reply(module: str) -> ModuleReply:
        return ModuleReply(
            module=module, engine="e", text="", prompt_tokens=0, response_tokens=0, seconds=0.0
        )

    trajectory = Trajectory(
        id="a",
        query="q",
        outcome=Outcome.ANSWERED,
        turns=(
            Turn(index=0, replies=(reply("planner"),)),
            Turn(index=1, replies=(reply("verifier"),)),
        ),
        replies=(reply("analyst"), reply("generator")),
    )
    assert [reply.module for reply in trajectory.all_replies()] == [
        "analyst",
        "generator",
        "planner",
        "verifier",
    ]
