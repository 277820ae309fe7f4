"""A trajectory becomes one row a planner turn, token for token; a batch of rows becomes
trajectories and groups again.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.trainer.batching.dealing import BatchIndex, deal, plan_steps
from agentflow_verl.trainer.rollout.row_record import FIELD, module_ids, read_record
from agentflow_verl.trainer.rollout.rows import RECORD, to_rows
from agentflow_verl.trajectories.records import ModuleReply, Outcome, Tokens, Trajectory, Turn
from tests.flow.fakes import planned

PLACEHOLDER = 99
VERSION = 7
IDS = st.lists(st.integers(0, 50_000), min_size=1, max_size=6).map(tuple)


def tokens(
    prompt: tuple[int, ...] = (1, 2), response: tuple[int, ...] = (3, 4), **more: object
) -> Tokens:
    return Tokens(
        prompt_ids=prompt, response_ids=response, logprobs=tuple(-0.5 for _ in response), **more
    )


def trajectory(
    *turns: Tokens | None, outcome: Outcome = Outcome.ANSWERED, **more: object
) -> Trajectory:
    made = tuple(planned(index, each) for index, each in enumerate(turns))
    return Trajectory(id="g_0", query="q", turns=made, outcome=outcome, **more)


def rows_of(trajectory: Trajectory):
    return to_rows(trajectory, PLACEHOLDER, VERSION)


@given(st.lists(st.tuples(IDS, IDS), min_size=1, max_size=4))
def test_every_turn_is_a_row_of_exactly_its_ids(turns):
    rows = rows_of(trajectory(*(tokens(prompt, response) for prompt, response in turns)))
    assert [(tuple(row.prompt_ids), tuple(row.response_ids)) for row in rows] == turns
    for row in rows:
        assert row.response_mask == [1] * len(row.response_ids)
        assert row.response_logprobs == [-0.5] * len(row.response_ids)
        assert row.num_turns == len(turns)


def reply(module: str, *response: int) -> ModuleReply:
    return ModuleReply(
        module=module,
        engine="policy",
        text="",
        prompt_tokens=1,
        response_tokens=len(response),
        seconds=0.0,
        tokens=tokens(response=response) if response else None,
    )


def all_modules() -> Trajectory:
    turns = []
    for index in range(2):
        replies = (reply("planner"), reply("executor", 20 + index), reply("verifier", 30 + index))
        planned = tokens(response=(10 + index,))
        turns.append(Turn(index=index, tokens=planned, replies=replies))
    asked = (reply("analyst", 1), reply("generator", 40))
    return Trajectory(
        id="g_0", query="q", turns=tuple(turns), outcome=Outcome.ANSWERED, replies=asked
    )


@pytest.mark.parametrize(
    "trained, expected",
    [
        (("planner",), [("planner", 10), ("planner", 11)]),
        (
            ("executor", "planner"),
            [("planner", 10), ("executor", 20), ("planner", 11), ("executor", 21)],
        ),
        (("generator", "analyst"), [("analyst", 1), ("generator", 40)]),
        (("verifier",), [("verifier", 30), ("verifier", 31)]),
    ],
)
def test_a_row_is_a_call_of_a_trained_module_in_the_order_of_the_calls(trained, expected):
    rows = to_rows(all_modules(), PLACEHOLDER, VERSION, trained)
    found = [(row.extra_fields[FIELD].module, row.response_ids[0]) for row in rows]
    assert found == expected
    assert [row.extra_fields[FIELD].summary is not None for row in rows][-1]
    assert {row.num_turns for row in rows} == {2}


def test_a_trajectory_whose_trained_module_was_never_called_still_counts():
    (row,) = to_rows(trajectory(tokens()), PLACEHOLDER, VERSION, ("generator",))
    assert row.response_mask == [0] and row.extra_fields[FIELD].valid
    # As a call of the module that is trained alone; where there are several, of none of them.
    assert module_ids([row.extra_fields[FIELD]], ["generator"]).tolist() == [0]
    for trained in (["planner", "generator"], ["generator", "planner"]):
        (row,) = to_rows(trajectory(), PLACEHOLDER, VERSION, trained)
        assert module_ids([row.extra_fields[FIELD]], trained).tolist() == [2]


def test_modules_are_told_apart_in_a_batch():
    rows = to_rows(all_modules(), PLACEHOLDER, VERSION, ("planner", "executor"))
    records = [row.extra_fields[FIELD] for row in rows]
    assert module_ids([*records, None], ["executor", "planner"]).tolist() == [1, 0, 1, 0, 2]


def test_rows_come_out_of_verls_own_conversion_unchanged():
    (row,) = rows_of(trajectory(tokens((5, 6, 7), (8, 9))))
    row.reward_score = 1.0
    columns = row.as_dict()
    assert columns["prompts"].tolist() == [5, 6, 7]
    assert columns["responses"].tolist() == [8, 9]
    assert columns["response_mask"].tolist() == [1, 1]
    assert columns["rollout_log_probs"].tolist() == [-0.5, -0.5]
    assert columns["rm_scores"].tolist() == [0.0, 1.0]
    assert read_record(columns["extra_fields"]).id == "g_0"


def test_the_record_travels_on_the_last_row_alone():
    whole = trajectory(tokens(), tokens(), tokens())
    rows = rows_of(whole)
    assert [RECORD in row.extra_fields for row in rows] == [False, False, True]
    assert rows[-1].extra_fields[RECORD] is whole


def test_a_malformed_turn_is_trained_like_any_other():
    whole = trajectory(tokens(response=(1,)), tokens(response=(2,)), outcome=Outcome.MALFORMED)
    assert [row.response_mask for row in rows_of(whole)] == [[1], [1]]
    assert all(row.extra_fields[FIELD].valid for row in rows_of(whole))


def assert_placeholder(rows, valid: bool) -> None:
    (row,) = rows
    assert (row.prompt_ids, row.response_ids, row.response_mask) == (
        [PLACEHOLDER],
        [PLACEHOLDER],
        [0],
    )
    assert row.response_logprobs == [0.0]
    assert row.extra_fields[FIELD].valid is valid
    assert RECORD in row.extra_fields


def test_a_faulted_trajectory_is_one_masked_row_and_not_valid():
    assert_placeholder(
        rows_of(trajectory(tokens(), tokens(), outcome=Outcome.INFRA_ERROR)), valid=False
    )


def test_a_trajectory_without_a_turn_is_one_masked_row_and_still_valid():
    """Out of time in the analyst: scored 0 in its group's statistics, though there is nothing to
    train.
    """
    assert_placeholder(rows_of(trajectory(outcome=Outcome.OUT_OF_TIME)), valid=True)


def test_a_planner_that_only_speaks_text_gives_nothing_to_train():
    assert_placeholder(rows_of(trajectory(Tokens(prompt_ids=(), response_ids=()))), valid=True)


def test_a_turn_without_tokens_is_no_row():
    assert len(rows_of(trajectory(None, tokens()))) == 1


def test_without_log_probabilities_none_are_made_up():
    (row,) = rows_of(trajectory(Tokens(prompt_ids=(1,), response_ids=(2,))))
    assert row.response_logprobs is None
    assert "rollout_log_probs" not in row.as_dict()


def test_the_weights_version_is_the_servers_where_it_says_one():
    known, unknown = rows_of(trajectory(tokens(weights_first=3, weights_last=4), tokens()))
    versions = ("min_global_steps", "max_global_steps", "global_steps")
    assert [known.extra_fields[name] for name in versions] == [3, 4, 4]
    assert [unknown.extra_fields[name] for name in versions] == [VERSION] * 3


def test_version_zero_is_a_version():
    (row,) = rows_of(trajectory(tokens(weights_first=0, weights_last=0)))
    assert row.extra_fields["min_global_steps"] == 0


def test_times_go_where_verl_reports_them():
    timings = {
        "analyst": 9.0,
        "planner": 1.0,
        "executor": 2.0,
        "verifier": 4.0,
        "tools": 0.5,
        "total": 20.0,
    }
    (row,) = rows_of(trajectory(tokens(), timings=timings))
    assert row.metrics.generate_sequences == 7.0
    assert row.metrics.tool_calls == 0.5


# ---- a batch ----


def test_keys_are_read_from_the_right():
    """A uid may hold underscores of its own."""
    keys = ["a_b_0_0", "a_b_0_1", "a_b_1_0", "a_0_0", "padx_0_0"]
    index = BatchIndex.of(keys, [{}, {}, {}, {"is_padding": False}, {"is_padding": True}])
    assert index.group_R.tolist() == [0, 0, 0, 1, 2]
    assert index.trajectory_R.tolist() == [0, 0, 1, 2, 3]
    assert index.padding_R.tolist() == [False, False, False, False, True]
    assert index.padding_R.dtype == torch.bool


@given(
    st.lists(
        st.tuples(st.sampled_from("ab_"), st.integers(0, 2), st.integers(0, 2)),
        min_size=1,
        max_size=12,
    )
)
def test_rows_are_of_one_group_or_trajectory_exactly_when_their_keys_say_so(parts):
    index = BatchIndex.of(
        [f"{uid}_{session}_{turn}" for uid, session, turn in parts], [{}] * len(parts)
    )
    for one, (uid, session, _) in enumerate(parts):
        for other, (other_uid, other_session, _) in enumerate(parts):
            assert (index.group_R[one] == index.group_R[other]) == (uid == other_uid)
            same = (uid, session) == (other_uid, other_session)
            assert (index.trajectory_R[one] == index.trajectory_R[other]) == same


def test_steps_are_dealt_by_group_evenly():
    assert plan_steps([0, 0, 1, 2, 2, 2, 3], 2) == [0, 0, 0, 1, 1, 1, 1]
    assert plan_steps([5, 9, 7], 2) == [0, 0, 1]
    assert plan_steps([0, 0, 0], 32) == [0, 0, 0]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 12))
def test_steps_keep_groups_whole_and_do_not_depend_on_turns(group_R, per_step):
    steps = plan_steps(group_R, per_step)
    step_of = dict(zip(group_R, steps))
    assert [step_of[group] for group in group_R] == steps
    sizes = [list(step_of.values()).count(step) for step in range(max(steps) + 1)]
    assert max(sizes) <= per_step and min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == -(-len(step_of) // per_step)
    longer = [group for group in group_R for _ in range(1 + group % 3)]
    assert dict(zip(longer, plan_steps(longer, per_step))) == step_of


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=30),
    st.integers(1, 4),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_every_rank_gets_as_many_rows_of_each_step_and_every_row_once(
    step_R, ranks, multiple, random
):
    step_R = [sorted(set(step_R)).index(step) for step in step_R]  # no step without rows
    dealt = deal(step_R, [random.randint(1, 500) for _ in step_R], ranks, multiple)
    order = dealt.order()
    assert sorted(order) == list(range(dealt.size))
    assert dealt.per_rank % multiple == 0
    assert dealt.size == dealt.steps * ranks * dealt.per_rank
    for position, row in enumerate(order):
        if row < len(step_R):
            step = position % (dealt.steps * dealt.per_rank) // dealt.per_rank
            assert step_R[row] == step


def test_shuffling_moves_whole_groups_by_the_seed_alone():
    group_R = [group for group in range(12) for _ in range(1 + group % 3)]
    plain, one, again, other = (
        plan_steps(group_R, 3, seed) for seed in (None, "42/1/0", "42/1/0", "42/2/0")
    )
    assert plain == sorted(plain)
    assert one == again
    assert len({tuple(plain), tuple(one), tuple(other)}) == 3
    for steps in (plain, one, other):
        of_group = dict(zip(group_R, steps))
        assert [of_group[group] for group in group_R] == steps, "a group is never torn apart"
        assert sorted(of_group.values()) == [step for step in range(4) for _ in range(3)]
