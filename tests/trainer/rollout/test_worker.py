"""What the worker does with a trajectory that has ended: score it once, log it, store it, unless a
fault took it.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from agentflow_verl.config import schema
from agentflow_verl.flow.prompts import Prompts
from agentflow_verl.trainer.rollout import services as services_module
from agentflow_verl.trainer.rollout import worker as worker_module
from agentflow_verl.trainer.rollout.row_record import FIELD
from agentflow_verl.trainer.rollout.rows import to_rows
from agentflow_verl.trainer.rollout.services import Services
from agentflow_verl.trainer.rollout.worker import FlowWorker
from agentflow_verl.trajectories.log import TrajectoryLog, read_log
from agentflow_verl.trajectories.manifest import Setup
from agentflow_verl.trajectories.records import Outcome, Tokens, Trajectory
from tests.engines import tokenizers
from tests.flow.fakes import planned
from tests.tools.servers import FaultyServer

ROW = {"global_steps": 3, "uid": "g", "session_id": 1, "data_source": "maths"}
SCORED = {"scored": 1.0, "success": 1.0}
UNSCORED = {"scored": 0.0, "success": 0.0, "reason": "InfraError: no judge"}


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> FlowWorker:
    """Without verl around it: scores come from ``said``, what would go to TransferQueue to
    ``stored``.
    """
    made = FlowWorker.__new__(FlowWorker)
    made.tools, made.said, made.stored, made.asked = (
        SimpleNamespace(log=TrajectoryLog(tmp_path)),
        SCORED,
        [],
        0,
    )

    async def compute_score(self: Any, outputs: list[Any], kwargs: dict[str, Any]) -> None:
        self.asked += 1
        outputs[-1].reward_score, outputs[-1].extra_fields["reward_extra_info"] = (
            self.said["scored"],
            self.said,
        )

    async def postprocess(self: Any, output: list[Any], validate: bool, **row: Any) -> None:
        await self._compute_score(output, kwargs=row)
        self.stored.append(output)

    monkeypatch.setattr(worker_module._WorkerTQ, "_compute_score", compute_score)
    monkeypatch.setattr(worker_module._WorkerTQ, "_agent_loop_postprocess", postprocess)
    return made


def rows(outcome: Outcome = Outcome.ANSWERED) -> list[Any]:
    tokens = Tokens(prompt_ids=(1,), response_ids=(2,))
    turns = (planned(0, tokens), planned(1, tokens))
    error = "a server is gone" if outcome is Outcome.INFRA_ERROR else None
    return to_rows(
        Trajectory(id="g_1", query="q", turns=turns, outcome=outcome, error=error),
        placeholder_id=0,
        policy_version=2,
    )


@pytest.mark.parametrize("validate", [False, True])
async def test_a_trajectory_is_scored_logged_and_stored_once(worker, validate):
    output = rows()
    await worker._agent_loop_postprocess(output, validate, **ROW)
    (entry,) = read_log(worker.tools.log.folder, "val" if validate else "train")
    assert (entry.reward, entry.step, entry.group, entry.session, entry.scores) == (
        1.0,
        3,
        "g",
        1,
        SCORED,
    )
    assert worker.stored == [output] and worker.asked == 1
    assert [row.extra_fields[FIELD].valid for row in output] == [True, True]


@pytest.mark.parametrize("validate", [False, True])
async def test_a_scorer_that_fails_is_a_fault_of_the_trajectory(worker, validate):
    worker.said = UNSCORED
    output = rows()
    await worker._agent_loop_postprocess(output, validate, **ROW)
    (entry,) = read_log(worker.tools.log.folder, "val" if validate else "train")
    assert (entry.reward, entry.trajectory.outcome) == (None, Outcome.INFRA_ERROR)
    assert entry.trajectory.error == "the scorer failed: InfraError: no judge"
    for row in output:
        assert (row.extra_fields[FIELD].valid, row.extra_fields[FIELD].outcome) == (
            False,
            Outcome.INFRA_ERROR,
        )
    assert output[-1].extra_fields[FIELD].summary.error == entry.trajectory.error, (
        "which stops a run where it is the rule"
    )
    assert len(worker.stored) == (0 if validate else 1), "a validation would count it as a 0"


async def test_a_faulted_trajectory_of_a_validation_is_only_logged(worker):
    worker.said = {"scored": 0.0}
    await worker._agent_loop_postprocess(rows(Outcome.INFRA_ERROR), True, **ROW)
    (entry,) = read_log(worker.tools.log.folder, "val")
    assert (entry.trajectory.error, entry.reward, worker.stored) == ("a server is gone", None, [])


async def test_what_trajectories_are_made_with_is_kept_beside_them(tmp_path):
    own = tmp_path / "prompts"
    own.mkdir()
    (own / "analyst.md").write_text("Prepare.\n$tools\n---\n$query\n")
    server = FaultyServer()
    await server.start()
    answering = dict.fromkeys(("analyst", "executor", "verifier", "generator"), "other")
    config = schema.load(
        {
            "engines": answering,
            "endpoints": {"other": {"base_url": "http://127.0.0.1:9/v1", "model": "m"}},
            "tools": {"faulty": {"urls": [server.url]}},
            "max_turns": 5,
            "trajectory_dir": str(tmp_path),
            "prompts": str(own),
        }
    )
    rollout = SimpleNamespace(prompt_length=700)
    services = await Services.open(
        config, {}, (), tokenizers.make(), rollout, {"enable_thinking": False}
    )
    await services.tools.close()
    await services.engines["other"].engine.session.close()
    await server.stop()
    kept = Setup.near(tmp_path / "train" / "step_000001" / "worker.jsonl")
    assert kept is not None and kept.limits == config.limits and kept.tools == services.tools.specs
    assert (kept.prompt_limits, kept.template) == ({"policy": 700}, {"enable_thinking": False})
    assert services.prompts.digest == Prompts.from_folder(own).digest
    assert (kept.prompts, kept.prompts_digest) == (str(own), services.prompts.digest)


@pytest.mark.parametrize("structured", [True, False])
async def test_the_base_is_held_to_schemas_where_the_option_says_so(structured, monkeypatch):
    monkeypatch.setattr(services_module, "schema_sampling", lambda _: lambda schema: {})
    server = FaultyServer()
    await server.start()
    config = schema.load(
        {"tools": {"faulty": {"urls": [server.url]}}, "base": {"structured": structured}}
    )
    rollout = SimpleNamespace(
        prompt_length=700, response_length=100, max_model_len=2048, name="vllm"
    )
    services = await Services.open(config, {}, (), tokenizers.make(), rollout, {})
    await services.tools.close()
    await server.stop()
    assert services.engines["base"].structured is structured
