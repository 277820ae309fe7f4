"""A call that nobody waits for any longer ends in the server too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from verl.workers.rollout.llm_server import LLMServerClient

from agentflow_verl.deadline import Deadline
from agentflow_verl.engines.replica import ReplicaClient, abort_when_cancelled
from agentflow_verl.errors import OutOfTime

NAME = "agentflow_test_server"


class Server:
    """Answers at once, or never, and counts what was cancelled in it."""

    def __init__(self) -> None:
        self.cancelled = 0

    async def generate(self, prompt_ids: list[int], **_: Any) -> list[int]:
        try:
            if prompt_ids == [0]:
                await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return prompt_ids

    async def count(self) -> int:
        return self.cancelled


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    ray.init(num_cpus=2, include_dashboard=False)
    yield ray.remote(Server).options(name=NAME).remote()
    ray.shutdown()


class Policy(LLMServerClient):
    """verl's client, reduced to its way of calling a server."""

    def __init__(self, server: Any):
        self.server = server

    async def _acquire_server(self, request_id: str) -> tuple[str, Any]:
        return "one", self.server

    async def generate(self, request_id: str, **arguments: Any) -> Any:
        _, server = await self._acquire_server(request_id)
        return await server.generate.remote(request_id=request_id, **arguments)


@pytest.mark.parametrize("kind", ["base", "policy"])
async def test_a_call_past_its_deadline_is_cancelled_in_the_server(server: Any, kind: str) -> None:
    client = ReplicaClient((NAME,)) if kind == "base" else abort_when_cancelled(Policy(server))
    assert await client.generate("t", prompt_ids=[7], sampling_params={}) == [7]
    before = await server.count.remote()
    with pytest.raises(OutOfTime):
        await Deadline.after(1.0).run(client.generate("t", prompt_ids=[0], sampling_params={}), "the call")
    for _ in range(100):
        if await server.count.remote() == before + 1:
            return
        await asyncio.sleep(0.1)
    pytest.fail("the server is still at work")


async def test_without_it_the_server_goes_on(server: Any) -> None:
    before = await server.count.remote()
    with pytest.raises(OutOfTime):
        await Deadline.after(1.0).run(Policy(server).generate("t", prompt_ids=[0], sampling_params={}), "the call")
    await asyncio.sleep(2.0)
    assert await server.count.remote() == before
