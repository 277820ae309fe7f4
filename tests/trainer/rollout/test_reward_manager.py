"""verl's reward manager over trajectories, called as verl's reward worker calls it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from aiohttp.test_utils import TestServer
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl import DataProto

from agentflow_verl.evaluation.questions import load
from agentflow_verl.evaluation.runner import score
from agentflow_verl.trainer.rollout.reward_manager import FlowRewardManager
from agentflow_verl.trainer.rollout.rows import RECORD
from agentflow_verl.trajectories.records import Outcome, Trajectory
from tests.rewards.judge.judge_server import JudgeServer, status


def manager(custom: Any = None) -> FlowRewardManager:
    config = OmegaConf.create(
        {"reward": {"custom_reward_function": {"path": "mine.py" if custom else None}}}
    )
    return FlowRewardManager(config, tokenizer=None, compute_score=custom)


def rows(
    answer: str,
    outcome: Outcome = Outcome.ANSWERED,
    source: str = "maths",
    turns: int = 2,
    truth: Any = "4",
    query: str = "What is 2 + 2?",
    **extra: Any,
) -> DataProto:
    """A trajectory's rows; as in verl, the record travels on the last one."""
    trajectory = Trajectory(id="a_0", query=query, answer=answer, outcome=outcome)
    fields = [{} for _ in range(turns - 1)] + [{RECORD: trajectory}]
    columns = {
        "data_source": [source] * turns,
        "reward_model": [{"ground_truth": truth}] * turns,
        "extra_info": [{"index": 1, **extra}] * turns,
        "tool_extra_fields": fields,
    }
    non_tensor = {key: np.array(values, dtype=object) for key, values in columns.items()}
    return DataProto(
        batch=TensorDict({"responses": torch.zeros(turns, 1)}, batch_size=turns),
        non_tensor_batch=non_tensor,
    )


async def test_a_right_answer_is_rewarded_by_the_rule_of_its_data_source() -> None:
    result = await manager().run_single(rows("4.0"))
    assert result["reward_score"] == 1.0
    assert result["reward_extra_info"]["scored"] == 1.0
    assert result["reward_extra_info"]["scorer"] == "maths"


@pytest.mark.parametrize("outcome", [Outcome.OUT_OF_TURNS, Outcome.OUT_OF_TIME, Outcome.MALFORMED])
async def test_the_models_own_failures_are_scored(outcome: Outcome) -> None:
    result = await manager().run_single(rows("", outcome))
    assert (result["reward_score"], result["reward_extra_info"]["scored"]) == (0.0, 1.0)


async def test_an_infrastructure_fault_is_not_scored_even_with_the_right_answer() -> None:
    result = await manager().run_single(rows("4", Outcome.INFRA_ERROR))
    assert result["reward_extra_info"]["scored"] == 0.0


async def test_a_scorer_that_raises_is_a_fault_not_a_wrong_answer() -> None:
    def broken(**_: Any) -> float:
        raise ConnectionError("the judge is down")

    assert (await manager(broken).run_single(rows("4")))["reward_extra_info"]["scored"] == 0.0


@pytest.mark.parametrize(
    "returned",
    [
        float("nan"),
        float("inf"),
        {"score": float("-inf")},
        {"score": np.float64("nan"), "note": 1.0},
        None,
        "1.0",
        {"reward": 1.0},
        {"score": None},
        {"score": [1.0]},
        {},
        [1.0],
    ],
)
async def test_a_reward_that_is_no_finite_number_is_a_fault(returned: Any) -> None:
    result = await manager(lambda **_: returned).run_single(rows("4"))
    assert result["reward_score"] == 0.0
    assert result["reward_extra_info"]["scored"] == 0.0
    assert "the reward function returned" in result["reward_extra_info"]["reason"]


@pytest.mark.parametrize("returned", [1, True, 0.25, np.float32(0.25), {"score": np.int64(1)}])
async def test_any_kind_of_number_is_a_reward(returned: Any) -> None:
    result = await manager(lambda **_: returned).run_single(rows("4"))
    assert result["reward_extra_info"]["scored"] == 1.0
    assert isinstance(result["reward_score"], float)


@pytest.mark.parametrize(
    "answer",
    [
        "James Madison",
        "the Madison",
        "17 %",
        "33.0",
        "(1+1+1)*8",
        "(1+1+1)*8*1",
        "B",
        "(A) tin",
        "",
    ],
)
@pytest.mark.parametrize(
    ("benchmark", "row"),
    [
        ("bamboogle", {"query": "Who?", "answer": ["james madison", "Madison"]}),
        ("gaia", {"Question": "How many?", "Final answer": "17"}),
        ("aime24", {"query": "What?", "answer": 33}),
        (
            "gameof24",
            {"query": "Using the numbers [1, 1, 1, 8], make 24.", "answer": ["(1+1+1)×8"]},
        ),
        ("gpqa", {"question": "Which?", "choices": ["A. tin", "B. lead"], "answer": "B. lead"}),
    ],
)
async def test_a_validation_gives_the_score_that_the_evaluation_gives(
    benchmark: str, row: dict, answer: str, tmp_path
) -> None:
    (tmp_path / f"{benchmark}.json").write_text(json.dumps([row]))
    [question] = load(benchmark, tmp_path).questions
    data = rows(
        answer, source=benchmark, truth=question.answer, query=question.text, **question.extra
    )
    there, details = await score(
        None, question, data[-1].non_tensor_batch["tool_extra_fields"][RECORD]
    )
    here = await manager().run_single(data)
    assert (here["reward_score"], here["reward_extra_info"]["scorer"]) == (there, details["scorer"])


async def test_a_data_source_without_a_rule_is_not_scored() -> None:
    assert (await manager().run_single(rows("4", source="no such source")))["reward_extra_info"][
        "scored"
    ] == 0.0


async def test_a_users_own_reward_sees_the_answer_and_the_whole_trajectory() -> None:
    seen: dict[str, Any] = {}

    async def mine(**given: Any) -> dict[str, float]:
        seen.update(given)
        return {"score": 0.5, "style": 1.0}

    result = await manager(mine).run_single(rows("four"))
    assert (result["reward_score"], result["reward_extra_info"]["style"]) == (0.5, 1.0)
    assert (seen["solution_str"], seen["ground_truth"]) == ("four", "4")
    assert seen["extra_info"]["trajectory"].query == "What is 2 + 2?"


async def test_verl_never_sees_acc_which_it_would_fill_with_zeros() -> None:
    """verl's validation counts a session that is missing as acc 0 (metric_utils.py,
    expected_acc_counts).
    """
    assert "acc" not in (await manager().run_single(rows("4")))["reward_extra_info"]


async def test_the_configured_judge_is_asked_and_its_outage_is_a_fault() -> None:
    server = JudgeServer()
    running = TestServer(server.app())
    await running.start_server()
    node = {
        "endpoints": {
            "judge": {"base_url": str(running.make_url("/v1")), "model": "m", "retries": 0}
        },
        "judge": {"mode": "fallback", "endpoint": "judge"},
        "tools": {"python_coder": {}},
    }
    ours = FlowRewardManager(
        OmegaConf.create({"reward": {"custom_reward_function": {"path": None}}, "agentflow": node}),
        None,
        None,
    )
    ruled = (await ours.run_single(rows("4")))["reward_extra_info"]
    assert (ruled["judged"], ruled["success"], len(server.bodies)) == (0.0, 1.0, 0)
    judged = (await ours.run_single(rows("4 (four)")))["reward_extra_info"]
    assert (judged["rule"], judged["judge"], judged["judged"], judged["success"]) == (
        0.0,
        1.0,
        1.0,
        1.0,
    )
    server.script = [status(503)]
    failed = (await ours.run_single(rows("forty")))["reward_extra_info"]
    assert (failed["success"], failed["scored"], failed["reason"].split(":")[0]) == (
        0.0,
        0.0,
        "InfraError",
    )
    await ours.judge.engine.session.close()
    await running.close()
