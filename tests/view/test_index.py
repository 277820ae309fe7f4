"""The table and its chunks hold what the log holds, and advantages are those of the update."""

from __future__ import annotations

import base64
import gzip
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.cli.view import write as write_page
from agentflow_verl.config.limits import Limits
from agentflow_verl.flow.memory import describe
from agentflow_verl.trajectories.manifest import FILE, Setup
from agentflow_verl.trajectories.run_folder import Run
from agentflow_verl.view import index as index_module
from agentflow_verl.view.detail import Pieces, difference, timeline
from agentflow_verl.view.index import Index
from tests.flow.fakes import CONTINUE, PYTHON, SEARCH, STOP
from tests.view.logs import CONTROL, RUN, groups, scored, tokenizer, trajectory, write


def entries(folder):
    run = Run(folder)
    run.refresh()
    return run.entries


def unpacked(content):
    return json.loads(gzip.decompress(content))


@pytest.fixture
def index():
    made = Index()
    for folder in (RUN, CONTROL):
        run = Run(folder)
        run.refresh()
        made.add(run, Pieces(None))
    return made


def test_groups_and_trajectories_are_those_of_the_log(index):
    table = unpacked(index.packed())
    assert [run["name"] for run in table["runs"]] == ["run-0", "run-shuffled"]
    rows = zip(
        table["trajectories"]["group"],
        table["trajectories"]["session"],
        table["trajectories"]["reward"],
        table["trajectories"]["answer"],
    )
    shown = {}
    for group, session, reward, answer in rows:
        place = tuple(table["groups"][name][group] for name in ("run", "split", "step", "uid"))
        shown.setdefault(place, []).append((session, reward, answer))
    logged = {
        (run, *place): [
            (line["session"], line["reward"], line["trajectory"]["answer"]) for line in members
        ]
        for run, folder in enumerate((RUN, CONTROL))
        for place, members in groups(folder).items()
    }
    assert shown == logged


def test_every_group_is_where_the_table_says(index, monkeypatch):
    monkeypatch.setattr(index_module, "CHUNK_BYTES", 20_000)
    small = Index()
    run = Run(RUN)
    run.refresh()
    small.add(run, Pieces(None))
    assert len(small.chunks) > 3
    table = unpacked(small.packed())
    chunks = [unpacked(chunk.packed()) for chunk in small.chunks]
    members = groups()
    for split, step, uid, chunk, place in zip(
        *(table["groups"][name] for name in ("split", "step", "uid", "chunk", "place"))
    ):
        logged = members[split, step, uid]
        details = chunks[chunk]["trajectories"][place : place + len(logged)]
        assert [detail["id"] for detail in details] == [line["trajectory"]["id"] for line in logged]


def test_prompts_and_replies_come_back_token_for_token(index):
    logged = {
        line["trajectory"]["id"]: line["trajectory"]
        for folder in (RUN, CONTROL)
        for members in groups(folder).values()
        for line in members
    }
    for chunk in index.chunks:
        before = []
        for detail in unpacked(chunk.packed())["trajectories"]:
            for turn, line in zip(detail["turns"], logged[detail["id"]]["turns"]):
                head, middle, tail = turn["tokens"]["prompt"]
                before = [*before[:head], *middle, *before[len(before) - tail :]]
                assert before == line["tokens"]["prompt_ids"]
                assert turn["tokens"]["response"] == line["tokens"]["response_ids"]
                assert turn["tokens"]["logprobs"] == pytest.approx(
                    line["tokens"]["logprobs"], abs=1e-6
                )


@given(st.lists(st.integers(0, 2), max_size=8), st.lists(st.integers(0, 2), max_size=8))
def test_a_difference_is_enough_to_build_the_second_from_the_first(before, ids):
    head, middle, tail = difference(before, ids)
    assert [*before[:head], *middle, *before[len(before) - tail :]] == ids
    assert len(middle) == 0 or head + tail < len(ids)


def test_a_timeline_shows_recorded_starts():
    made = trajectory(verifier=[CONTINUE, STOP])
    spans, recorded = timeline(made)
    assert recorded
    assert [span.part for span in spans] == [
        "analyst",
        *["planner", "executor", "tools", "verifier"] * 2,
        "generator",
    ]
    assert [span.turn for span in spans] == [None, *[0] * 4, *[1] * 4, None]
    assert [span.start for span in spans] == sorted(span.start for span in spans)
    assert spans[2].start == pytest.approx(made.turns[0].replies[1].started, abs=1e-4)


def test_an_older_log_is_laid_end_to_end():
    spans, recorded = timeline(entries(RUN)[0].read().trajectory)
    assert not recorded
    for span, following in zip(spans, spans[1:]):
        assert following.start == pytest.approx(span.start + span.seconds, abs=1e-3)


def test_what_a_turn_added_to_memory_is_what_prompts_show(index):
    logged = entries(RUN)[0].read().trajectory
    (detail,) = [
        d
        for chunk in index.chunks
        for d in unpacked(chunk.packed())["trajectories"]
        if d["id"] == logged.id
    ]
    assert [turn["memory"] for turn in detail["turns"]] == [describe(turn) for turn in logged.turns]


def test_numbers_that_json_or_a_browser_cannot_hold_survive_as_text(tmp_path):
    made = trajectory()
    turn = made.turns[0]
    tokens = turn.tokens.model_copy(update={"logprobs": (float("-inf"), *turn.tokens.logprobs[1:])})
    call = turn.call.model_copy(update={"arguments": {"big": 2**70, "nan": float("nan")}})
    made = made.model_copy(
        update={"turns": (turn.model_copy(update={"tokens": tokens, "call": call}),)}
    )
    run = Run(write(tmp_path, scored(made)))
    run.refresh()
    index = Index()
    index.add(run, Pieces(None))
    shown = unpacked(index.chunks[0].packed())["trajectories"][0]["turns"][0]
    assert shown["tokens"]["logprobs"][:2] == ["-inf", -0.5]
    assert shown["call"]["arguments"] == [["big", str(2**70)], ["nan", "NaN"]]


def test_tokens_have_their_text_where_there_is_a_tokenizer(tmp_path):
    run = Run(RUN)
    run.refresh()
    index = Index()
    index.add(run, Pieces(tokenizer(tmp_path / "tokenizer.json")))
    pieces = unpacked(index.chunks[0].packed())["pieces"]
    assert pieces and all(text == f"w{token}" for token, text in pieces.items())


def test_the_page_is_the_same_each_time_and_holds_every_chunk(tmp_path, index):
    pages = [tmp_path / "a.html", tmp_path / "b.html"]
    assert [write_page([RUN, CONTROL], None, page) for page in pages] == [48, 48]
    first, second = (page.read_text(encoding="utf-8") for page in pages)
    assert first == second
    blocks = dict(
        re.findall(r'<script type="application/gzip" id="([^"]+)">([^<]*)</script>', first)
    )
    assert set(blocks) == {"index", *(f"chunk-{number}" for number in range(len(index.chunks)))}
    assert unpacked(base64.b64decode(blocks["index"])) == unpacked(index.packed())


def test_the_prompts_of_all_modules_are_rebuilt_from_the_record(tmp_path):
    made = trajectory(verifier=[CONTINUE, STOP])
    folder = write(tmp_path / "run", scored(made))
    assert chunk_of(folder)["trajectories"][0]["prompts"] == []  # no flow.json
    Setup(limits=Limits(), tools=(PYTHON, SEARCH)).save(folder / "trajectories")
    prompts = chunk_of(folder)["trajectories"][0]["prompts"]
    assert len(prompts) == len(made.all_replies()) == 8
    assert all(prompt["exact"] for prompt in prompts)
    assert "What is 2 * 2?" in prompts[0]["messages"][1]["content"]
    (folder / "trajectories" / FILE).write_text("{")
    assert chunk_of(folder)["trajectories"][0]["prompts"] == []


def chunk_of(folder):
    index = Index()
    run = Run(folder)
    run.refresh()
    index.add(run, Pieces(None))
    return unpacked(index.chunks[0].packed())
