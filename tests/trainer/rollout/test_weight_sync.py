"""The trainer's weight updates as trajectories see them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from omegaconf import OmegaConf
from verl.checkpoint_engine.base import CheckpointEngineManager
from verl.workers.config import CheckpointEngineConfig
from verl.workers.rollout.llm_server import FullyAsyncLLMServerClient
from verl.workers.rollout.replica import TokenOutput

from agentflow_verl.core.clock import Clock
from agentflow_verl.core.interruptions import Interruptions
from agentflow_verl.trainer.rollout.frozen_base import abort_when_cancelled
from agentflow_verl.trainer.rollout.weight_sync import AnnouncingManager
from agentflow_verl.trainer.rollout.worker import FlowWorker


class Remote:
    """A method of a Ray actor, in this process."""

    def __init__(self, call: Any):
        self.remote = call


class Replica:
    """A rollout replica that notes what it is told."""

    def __init__(self, events: list[str]):
        self.events = events

    async def abort_all_requests(self, reject_request: bool = False) -> None:
        self.events.append(f"abort reject={reject_request}")

    async def resume_generation(self) -> None:
        self.events.append("resume")


def worker(events: list[str]) -> Any:
    """A FlowWorker of which nothing runs but what the trainer calls."""
    mine = FlowWorker.__new__(FlowWorker)
    mine.interruptions = Interruptions()

    async def suspend() -> None:
        events.append("suspended")
        await mine.suspend_generation()

    async def resume() -> None:
        events.append("resumed")
        await mine.resume_generation()

    return SimpleNamespace(
        suspend_generation=Remote(suspend),
        resume_generation=Remote(resume),
        interruptions=mine.interruptions,
    )


def test_workers_are_told_before_requests_are_aborted_and_after_servers_go_on():
    events: list[str] = []
    workers = [worker(events), worker(events)]
    verls = CheckpointEngineManager(
        CheckpointEngineConfig(backend="naive"), actor_wg=None, replicas=[Replica(events)]
    )
    manager = AnnouncingManager(verls, workers)
    clock = Clock()
    with workers[1].interruptions.waiting(clock):
        manager.abort_replicas()  # no event loop runs: as verl's trainer calls it
        assert clock.paused
        manager.resume_generation_replicas()
        assert not clock.paused
    told = ["suspended"] * 2 + ["abort reject=False", "resume"] + ["resumed"] * 2
    assert events == told


async def test_verls_own_update_announces_itself():
    """``update_weights`` of a backend that is not "naive" aborts and resumes by itself."""
    events: list[str] = []
    verls = CheckpointEngineManager(
        CheckpointEngineConfig(backend="naive"), actor_wg=None, replicas=[Replica(events)]
    )
    manager = AnnouncingManager(verls, [worker(events)])

    async def as_update_weights_does() -> None:
        await manager.abort_replicas()
        await manager.resume_generation_replicas()

    await as_update_weights_does()
    assert events == ["suspended", "abort reject=False", "resume", "resumed"]


async def test_the_second_that_verls_client_waits_after_an_abort_is_no_trajectorys():
    """The real client of the asynchronous modes, over a server that aborts the first attempt."""
    attempts: list[list[int]] = []

    async def generate(prompt_ids: list[int], **_: Any) -> TokenOutput:
        attempts.append(list(prompt_ids))
        first = len(attempts) == 1
        return TokenOutput(
            token_ids=[7 if first else 8],
            log_probs=[0.0],
            stop_reason="aborted" if first else "completed",
        )

    client = FullyAsyncLLMServerClient(
        OmegaConf.create({"actor_rollout_ref": {"rollout": {"name": "vllm"}}})
    )
    server = SimpleNamespace(generate=Remote(generate))

    async def acquire(*_: Any, **__: Any) -> tuple[str, Any]:
        return "one", server

    client._acquire_server = acquire
    client._release_server = lambda *_, **__: None
    clock = Clock()
    with Interruptions().waiting(clock):
        started = asyncio.get_running_loop().time()
        output = await abort_when_cancelled(client).generate(
            "t", prompt_ids=[1, 2], sampling_params={"max_tokens": 5}
        )
        seconds = asyncio.get_running_loop().time() - started
    assert output.token_ids == [7, 8] and attempts == [[1, 2], [1, 2, 7]]
    assert seconds >= 1 and clock.paused_s >= 0.9
