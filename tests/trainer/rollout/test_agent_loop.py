"""A validation has limits of its own; a run with a seed samples the same again."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agentflow_verl.config import schema
from agentflow_verl.engines.token_engine import TokenEngine
from agentflow_verl.trainer.rollout import worker as worker_module
from agentflow_verl.trainer.rollout.agent_loop import AgentflowLoop
from agentflow_verl.trainer.rollout.services import Services
from agentflow_verl.trainer.rollout.worker import FlowWorker
from tests.engines import tokenizers
from tests.flow.fakes import CONTINUE, PLAN, ScriptedTools, engines

TOKENIZER = tokenizers.make()

ROW = {
    "raw_prompt": [{"role": "user", "content": "What is 2 * 2?"}],
    "uid": "g",
    "session_id": 0,
    "global_steps": 1,
}


def agent_loop(config: schema.AgentflowConfig, determinism: bool = False) -> AgentflowLoop:
    """One whose engines follow a script; its verifier never says STOP."""
    loop = AgentflowLoop.__new__(AgentflowLoop)
    loop.services = Services(config, {}, ScriptedTools(), None)
    loop.tokenizer = SimpleNamespace(eos_token_id=0)
    loop.rollout_config = SimpleNamespace(full_determinism=determinism, seed=7)
    loop._engines = lambda _: engines(verifier=CONTINUE)
    return loop


async def run_by_worker(loop: AgentflowLoop, validate: bool = False, **row: Any) -> list[Any]:
    """The rows of a trajectory that the worker runs as verl does."""

    async def run(self: Any, sampling_params: Any, trajectory: Any, **row: Any) -> list[Any]:
        return await loop.run(sampling_params, **row)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_module._WorkerTQ, "_run_agent_loop", run)
        worker = FlowWorker.__new__(FlowWorker)
        work = worker._run_agent_loop({}, {"validate": validate}, **{**ROW, **row})
        return await asyncio.create_task(work)


async def turns_of(config: schema.AgentflowConfig, validate: bool) -> int:
    return len(await run_by_worker(agent_loop(config), validate))


async def test_a_validation_may_take_more_turns_than_training():
    config = schema.AgentflowConfig(max_turns=2, val={"max_turns": 5})
    assert [await turns_of(config, validate) for validate in (False, True, False)] == [2, 5, 2]


async def test_without_limits_of_its_own_a_validation_has_those_of_training():
    assert await turns_of(schema.AgentflowConfig(max_turns=2), validate=True) == 2


async def seeds_of(determinism: bool = True, validate: bool = False, **row: Any) -> list[Any]:
    """The seed of each planner call of a trajectory of two turns."""
    asked: list[Any] = []
    text = TOKENIZER.encode(PLAN)

    async def generate(request_id: str, *, prompt_ids: Any, sampling_params: Any) -> Any:
        asked.append(sampling_params.get("seed"))
        return SimpleNamespace(
            token_ids=text, log_probs=[0.0] * len(text), stop_reason="completed", extra_fields={}
        )

    loop = agent_loop(schema.AgentflowConfig(max_turns=2), determinism)
    policy = TokenEngine("policy", TOKENIZER, generate, {"temperature": 1.0}, 10_000, 500)
    loop._engines = lambda _: {**engines(verifier=CONTINUE), "planner": policy}
    await run_by_worker(loop, validate, **row)
    return asked


async def test_two_starts_with_one_seed_sample_the_same_though_verls_uids_differ():
    first = await seeds_of(uid="a", index=4)
    assert first == await seeds_of(uid="b", index=4)
    assert len(set(first)) == 2, "each turn draws its own"


@pytest.mark.parametrize("other", [{"session_id": 1}, {"index": 5}, {"global_steps": 2}])
async def test_every_trajectory_of_a_run_draws_its_own(other):
    assert not set(await seeds_of(index=4)) & set(await seeds_of(**{"index": 4, **other}))


async def test_a_validation_draws_other_numbers_than_training():
    assert not set(await seeds_of()) & set(await seeds_of(validate=True))


async def test_without_verls_full_determinism_the_sampling_is_verls_own():
    assert await seeds_of(determinism=False) == [None, None]
