"""A validation's trajectories have limits of their own."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agentflow_verl.config import schema
from agentflow_verl.trainer.rollout import worker as worker_module
from agentflow_verl.trainer.rollout.agent_loop import AgentflowLoop
from agentflow_verl.trainer.rollout.services import Services
from agentflow_verl.trainer.rollout.worker import FlowWorker
from tests.flow.fakes import CONTINUE, ScriptedTools, engines

ROW = {
    "raw_prompt": [{"role": "user", "content": "What is 2 * 2?"}],
    "uid": "g",
    "session_id": 0,
    "global_steps": 1,
}


async def turns_of(config: schema.AgentflowConfig, validate: bool) -> int:
    """Turns of a trajectory whose verifier never says STOP, run by the worker as verl runs it."""
    loop = AgentflowLoop.__new__(AgentflowLoop)
    loop.services = Services(config, {}, ScriptedTools(), None)
    loop.tokenizer = SimpleNamespace(eos_token_id=0)
    loop._engines = lambda _: engines(verifier=CONTINUE)

    async def run(self: Any, sampling_params: Any, trajectory: Any, **row: Any) -> int:
        return len(await loop.run(sampling_params, **row))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_module._WorkerTQ, "_run_agent_loop", run)
        worker = FlowWorker.__new__(FlowWorker)
        task = worker._run_agent_loop({}, {"validate": validate}, **ROW)
        return await asyncio.create_task(task)


async def test_a_validation_may_take_more_turns_than_training():
    config = schema.AgentflowConfig(max_turns=2, val={"max_turns": 5})
    assert [await turns_of(config, validate) for validate in (False, True, False)] == [2, 5, 2]


async def test_without_limits_of_its_own_a_validation_has_those_of_training():
    assert await turns_of(schema.AgentflowConfig(max_turns=2), validate=True) == 2
