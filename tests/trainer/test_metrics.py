"""What is logged counts trajectories, never rows, and never padding."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from agentflow_verl.trainer.batching.dealing import BatchIndex
from agentflow_verl.trainer.metrics import (
    MODULES,
    batch_metrics,
    module_metrics,
    policy_rollout_kl,
)
from agentflow_verl.trainer.rollout.row_record import RowRecord, row_records
from agentflow_verl.trajectories.records import (
    Call,
    Mistake,
    ModuleReply,
    Outcome,
    Plan,
    Result,
    Tokens,
    Trajectory,
    Turn,
    Verdict,
)

PLAN = Plan(justification="", context="", sub_goal="s", tool="python_coder")


def reply(module: str, **more: Any) -> ModuleReply:
    usual = {
        "engine": "e",
        "text": "",
        "prompt_tokens": 100,
        "response_tokens": 10,
        "cached_tokens": 60,
        "seconds": 0.1,
    }
    return ModuleReply(module=module, **{**usual, **more})


def turn(index: int, tokens: int = 10, **parts: Any) -> Turn:
    usual = {
        "plan": PLAN,
        "call": Call(tool="python_coder", arguments={}),
        "result": Result(text="4"),
        "verdict": Verdict(stop=True, analysis=""),
        "tokens": Tokens(prompt_ids=(1,), response_ids=tuple(range(tokens))),
        "replies": (reply("planner", response_tokens=tokens),),
    }
    return Turn(index=index, **{**usual, **parts})


def trajectory(*turns: Turn, outcome: Outcome = Outcome.ANSWERED, **more: Any) -> Trajectory:
    return Trajectory(
        id="t",
        query="q",
        turns=turns,
        outcome=outcome,
        timings={"planner": 2.0, "total": 5.0},
        **more,
    )


class Batch:
    """Rows as the trainer sees them: the summary on each trajectory's last row."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.tags: list[dict[str, Any]] = []
        self.ours: list[dict[str, Any]] = []
        self.scores: list[float] = []
        self.advantages: list[float] = []
        self.valid: list[bool] = []

    def add(
        self,
        group: str,
        session: int,
        trajectory: Trajectory,
        score: float,
        advantage: float = 0.0,
        trained: tuple[str, ...] = ("planner",),
    ) -> None:
        turns = max(1, len(trajectory.turns)) if trajectory.outcome.valid else 1
        for row, record in enumerate(row_records(trajectory, [*trained] * turns)):
            self._row(f"{group}_{session}_{row}", record, {}, score, advantage, record.valid)

    def pad(self, count: int) -> None:
        """verl's padding is a copy of the first row, summary and all, with a tag."""
        for number in range(count):
            self._row(f"pad_{number}_0", self.ours[-1], {"is_padding": True}, 99.0, 99.0, False)

    def _row(
        self,
        key: str,
        item: RowRecord,
        tag: dict[str, Any],
        score: float,
        advantage: float,
        valid: bool,
    ) -> None:
        self.keys.append(key)
        self.ours.append(item)
        self.tags.append(tag)
        self.scores.append(score)
        self.advantages.append(advantage)
        self.valid.append(valid)

    def metrics(self) -> dict[str, float]:
        mass_R = torch.full((len(self.keys),), 0.5) * torch.tensor(self.valid)
        columns = (
            torch.tensor(self.valid),
            torch.tensor(self.scores),
            torch.tensor(self.advantages, dtype=torch.float64),
            mass_R,
        )
        figures = batch_metrics(self.ours, BatchIndex.of(self.keys, self.tags), *columns)
        assert all(math.isfinite(value) for value in figures.values())
        return {name.removeprefix("agentflow/"): value for name, value in figures.items()}


@pytest.fixture
def batch() -> Batch:
    batch = Batch()
    batch.add("a", 0, trajectory(turn(0), turn(1), turn(2)), score=1.0, advantage=1.0)
    batch.add(
        "a",
        1,
        trajectory(turn(0, tokens=30), outcome=Outcome.OUT_OF_TURNS),
        score=0.0,
        advantage=-1.0,
    )
    batch.add("b", 0, trajectory(turn(0), outcome=Outcome.INFRA_ERROR), score=0.0)
    batch.add("b", 1, trajectory(turn(0)), score=0.5, advantage=0.0)
    return batch


def test_figures_are_per_trajectory_and_not_per_row(batch):
    figures = batch.metrics()
    assert figures["trajectories"] == 4
    assert figures["rows"] == 6
    assert figures["turns"] == 6 / 4
    assert figures["planner_tokens_per_turn"] == (30 + 30 + 10 + 10) / 6
    assert figures["planner_tokens_per_trajectory"] == 80 / 4
    assert figures["calls/python_coder"] == 6 / 4


def test_faults_are_counted_but_not_scored(batch):
    figures = batch.metrics()
    assert figures["reward"] == pytest.approx(0.5)
    assert figures["success"] == pytest.approx(1 / 3)
    assert figures["outcome/infra_error"] == 1 / 4
    assert figures["outcome/answered"] == 2 / 4
    assert figures["outcome/malformed"] == 0
    assert sum(value for name, value in figures.items() if name.startswith("outcome/")) == 1


def test_padding_changes_nothing(batch):
    before = batch.metrics()
    batch.pad(3)
    assert batch.metrics() == before


def test_groups_are_told_apart(batch):
    figures = batch.metrics()
    assert figures["groups"] == 2
    assert figures["thin_groups"] == 1 / 2, "b has one valid trajectory left"
    assert figures["zero_variance_groups"] == 1 / 2
    assert figures["advantage_spread"] == pytest.approx(1.0)
    assert figures["objective_mass"] == pytest.approx(0.5 * 5)


def test_a_mistake_is_a_rate_of_the_module_that_made_it():
    asked = (reply("planner"), reply("executor"), reply("verifier"))
    nothing = {"call": None, "result": None}
    turns = (
        turn(
            0, plan=None, verdict=None, mistake=Mistake.UNREADABLE_PLAN, error="no plan", **nothing
        ),
        turn(1, mistake=Mistake.UNKNOWN_TOOL, error="no tool 'x'", **nothing),
        # The executor was never asked: what the planner gave it is longer than its prompt may be.
        turn(2, mistake=Mistake.UNUSABLE_CALL, error="too long", **nothing),
        turn(
            3,
            mistake=Mistake.UNUSABLE_CALL,
            error="no JSON",
            verdict=Verdict(stop=False, analysis="", parsed=False),
            replies=asked,
            **nothing,
        ),
        turn(4, result=Result(text="boom", is_error=True), replies=asked),
        turn(5, replies=(*asked[:2], reply("verifier", cut=True))),
    )
    batch = Batch()
    answer = (reply("analyst"), reply("generator"))
    batch.add("a", 0, trajectory(*turns, replies=answer), score=0.0)
    batch.add("a", 1, trajectory(turn(0), replies=answer, answer="4"), score=1.0)
    figures = batch.metrics()
    assert figures["malformed_plan_rate"] == 1 / 7
    assert figures["unknown_tool_rate"] == 1 / 6
    assert figures["malformed_call_rate"] == 1 / 3
    assert figures["malformed_verdict_rate"] == 1 / 6
    assert figures["malformed_answer_rate"] == 1 / 2
    assert figures["tool_error_rate"] == 1 / 3
    assert figures["cut_replies"] == 1 / 2


def test_what_nobody_was_asked_for_is_no_mistake():
    batch = Batch()
    batch.add("a", 0, trajectory(outcome=Outcome.OUT_OF_TIME), score=0.0)
    rates = {name: value for name, value in batch.metrics().items() if name.endswith("_rate")}
    assert len(rates) == 7 and set(rates.values()) == {0.0}


def test_the_share_from_prefix_caches_is_of_the_engines_that_tell_in_all_and_by_engine():
    batch = Batch()
    silent, warm = (
        reply("planner", engine="other", cached_tokens=None),
        reply("verifier", engine="judge", cached_tokens=90),
    )
    batch.add(
        "a",
        0,
        trajectory(turn(0, replies=(reply("planner"), silent, warm)), replies=(reply("analyst"),)),
        score=0.0,
    )
    batch.add("a", 1, trajectory(turn(0, replies=(reply("planner", cached_tokens=0),))), score=0.0)
    figures = batch.metrics()
    assert figures["cached_token_share"] == (60 + 90 + 60 + 0) / 400
    assert figures["cached_token_share/e"] == 120 / 300
    assert figures["cached_token_share/judge"] == 90 / 100
    assert "cached_token_share/other" not in figures


def test_a_share_that_no_engine_tells_is_not_taken_for_zero():
    batch = Batch()
    for session in (0, 1):
        silent = trajectory(turn(0, replies=(reply("planner", cached_tokens=None),)))
        batch.add("a", session, silent, score=0.0)
    assert not [name for name in batch.metrics() if name.startswith("cached_token_share")]


def test_seconds_are_means_over_trajectories(batch):
    figures = batch.metrics()
    assert figures["seconds/planner"] == 2.0
    assert figures["seconds/total"] == 5.0
    assert {f"seconds/{part}" for part in MODULES} <= set(figures)


def test_a_batch_of_faults_alone_has_figures():
    batch = Batch()
    batch.add("a", 0, trajectory(outcome=Outcome.INFRA_ERROR), score=0.0)
    figures = batch.metrics()
    assert figures["outcome/infra_error"] == 1
    assert figures["reward"] == 0
    assert figures["groups"] == 0


def test_the_kl_to_the_rollout_is_the_mean_over_trained_tokens():
    """Two tokens with ratios 2 and 1/2: (2 - 1 - ln 2 + 1/2 - 1 + ln 2) / 2 = 1/4; a masked one may
    hold anything.
    """
    rollout_RL = torch.tensor([[-1.0, -1.0, -50.0]])
    old_RL = rollout_RL + torch.tensor([[math.log(2), -math.log(2), 40.0]])
    found = policy_rollout_kl(old_RL, rollout_RL, torch.tensor([[1, 1, 0]]))
    assert found == {"agentflow/policy_rollout_kl": pytest.approx(0.25, abs=1e-6)}


def test_equal_policies_have_no_kl_and_padding_alone_has_none_either():
    logprob_RL = torch.tensor([[-1.0, -2.0]])
    assert (
        policy_rollout_kl(logprob_RL, logprob_RL, torch.ones(1, 2))["agentflow/policy_rollout_kl"]
        == 0.0
    )
    assert (
        policy_rollout_kl(logprob_RL, logprob_RL - 1, torch.zeros(1, 2))[
            "agentflow/policy_rollout_kl"
        ]
        == 0.0
    )


def test_the_verifier_is_measured_by_the_outcome():
    """Of four decided trajectories one was stopped while wrong and one went on while right."""
    stop, go_on = Verdict(stop=True, analysis=""), Verdict(stop=False, analysis="")
    batch = Batch()
    batch.add("a", 0, trajectory(turn(0, verdict=go_on), turn(1, verdict=stop)), score=1.0)
    batch.add("a", 1, trajectory(turn(0, verdict=stop)), score=0.0)
    batch.add("a", 2, trajectory(turn(0, verdict=go_on)), score=1.0)
    batch.add("a", 3, trajectory(turn(0, verdict=go_on)), score=0.0)
    batch.add("a", 4, trajectory(turn(0, verdict=None)), score=1.0)
    figures = batch.metrics()
    assert figures["verifier/accuracy"] == 1 / 2
    assert figures["verifier/stopped_while_wrong"] == 1 / 4
    assert figures["verifier/went_on_while_right"] == 1 / 4


def test_where_the_loss_and_its_gradient_come_from(batch):
    """Every row has half a share; group b has one valid trajectory, so nothing to compare."""
    figures = batch.metrics()
    assert figures["gradient_share/turns_3"] == pytest.approx(3 * 0.5 / (4 * 0.5))
    assert figures["gradient_share/turns_1"] == pytest.approx(0.5 / (4 * 0.5))
    assert figures["loss_share_without_signal"] == pytest.approx(1 / 5)


def test_trained_modules_are_told_apart():
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 0, 0]])
    columns = {
        "response_mask": mask,
        "old_log_probs": torch.full((4, 3), -1.0),
        "ref_log_prob": torch.tensor([[-1.0] * 3, [-1.5] * 3, [-1.0] * 3, [9.0] * 3]),
    }
    module_R = torch.tensor([0, 1, 0, 0])
    weight_R = torch.tensor([0.1, 0.5, 0.1, 0.0])  # the last row is padding
    advantage_R = torch.tensor([1.0, 1.0, -1.0, 99.0])
    found = module_metrics(["planner", "executor"], module_R, advantage_R, weight_R, columns)
    assert found["agentflow/trained/planner/rows"] == 2
    assert found["agentflow/trained/planner/tokens"] == 5
    assert found["agentflow/trained/planner/loss_share"] == pytest.approx(0.5)
    assert found["agentflow/trained/planner/advantage_spread"] == pytest.approx(2**0.5)
    assert found["agentflow/trained/planner/kl"] == 0.0
    assert found["agentflow/trained/executor/kl"] == pytest.approx(math.exp(-0.5) - 1 + 0.5)
    assert module_metrics(["planner"], module_R, advantage_R, weight_R, columns) == {}
    # No other metric tells of a module that is trained alone.
    alone = module_metrics(["executor"], 1 - module_R, advantage_R, weight_R, columns)
    assert alone["agentflow/trained/executor/tokens"] == 1
    # Rejection sampling may leave a module no token.
    columns["response_mask"][module_R == 1] = 0
    found = module_metrics(["planner", "executor"], module_R, advantage_R, weight_R, columns)
    assert "agentflow/trained/executor/kl" not in found
    assert all(math.isfinite(value) for value in found.values())


def test_gradient_is_by_turns_however_many_modules_have_rows():
    batch = Batch()
    both = ("planner", "executor")
    batch.add("a", 0, trajectory(turn(0)), score=1.0, advantage=1.0, trained=both)
    batch.add("a", 1, trajectory(turn(0), turn(1)), score=0.0, advantage=-1.0, trained=both)
    found = {name for name in batch.metrics() if name.startswith("gradient_share/")}
    assert found == {"gradient_share/turns_1", "gradient_share/turns_2"}
    # A copy of a valid row is as valid as the row, and still no trajectory.
    batch.pad(1)
    batch.valid[-1] = True
    assert {name for name in batch.metrics() if name.startswith("gradient_share/")} == found


def test_the_planners_tokens_are_counted_where_it_is_not_trained():
    """On a frozen engine none of its tokens are kept."""
    batch = Batch()
    batch.add("a", 0, trajectory(turn(0, tokens=7).model_copy(update={"tokens": None})), score=1.0)
    assert batch.metrics()["planner_tokens_per_trajectory"] == 7


def test_success_by_what_a_turn_did_is_compared_within_groups():
    batch = Batch()
    failed = {"result": Result(text="no", is_error=True)}
    search = {"call": Call(tool="wikipedia_search", arguments={})}
    batch.add("a", 0, trajectory(turn(0), turn(1)), score=1.0)
    batch.add("a", 1, trajectory(turn(0, **failed)), score=0.0)
    batch.add("a", 2, trajectory(turn(0, **search)), score=1.0)
    batch.add("b", 0, trajectory(turn(0, **search)), score=0.0)
    batch.add("b", 1, trajectory(turn(0, **search)), score=0.0)
    batch.add("b", 2, trajectory(turn(0), outcome=Outcome.INFRA_ERROR), score=0.0)
    batch.pad(1)
    found = {
        name.removeprefix("turn_credit/"): value
        for name, value in batch.metrics().items()
        if name.startswith("turn_credit/")
    }
    # Only group a has two tools, and one call that failed; its mean success is 2/3.
    assert found == pytest.approx(
        {
            "turn_1/tool/python_coder": 1 / 2 - 2 / 3,
            "turn_1/tool/wikipedia_search": 1 - 2 / 3,
            "turn_1/error/none": 1 - 2 / 3,
            "turn_1/error/tool_error": 0 - 2 / 3,
        }
    )


def test_only_the_first_turns_are_metrics():
    batch = Batch()
    search = {"call": Call(tool="wikipedia_search", arguments={})}
    batch.add("a", 0, trajectory(*(turn(index) for index in range(5))), score=1.0)
    batch.add("a", 1, trajectory(*(turn(index, **search) for index in range(5))), score=0.0)
    names = [name for name in batch.metrics() if name.startswith("turn_credit/")]
    assert {name.split("/")[1] for name in names} == {"turn_1", "turn_2", "turn_3"}
