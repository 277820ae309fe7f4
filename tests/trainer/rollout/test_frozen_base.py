"""Rollout servers behind Ray: a trajectory stays on one, and a call that nobody waits for any
longer ends in it too.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import RayActorError
from verl.workers.rollout.llm_server import GlobalRequestLoadBalancer, LLMServerClient

from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import InfraError, OutOfTime
from agentflow_verl.trainer.rollout.frozen_base import (
    ReplicaClient,
    abort_when_cancelled,
    base_generate,
    context_length,
)
from tests.trainer.rollout.servers import Server

NAME = "agentflow_test_server"


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
    assert await client.generate("t", prompt_ids=[7], sampling_params={})
    before = await server.count.remote()
    with pytest.raises(OutOfTime):
        await Deadline.after(1.0).run(
            client.generate("t", prompt_ids=[0], sampling_params={}), "the call"
        )
    for _ in range(100):
        if await server.count.remote() == before + 1:
            return
        await asyncio.sleep(0.1)
    pytest.fail("the server is still at work")


async def test_without_it_the_server_goes_on(server: Any) -> None:
    before = await server.count.remote()
    with pytest.raises(OutOfTime):
        await Deadline.after(1.0).run(
            Policy(server).generate("t", prompt_ids=[0], sampling_params={}), "the call"
        )
    await asyncio.sleep(2.0)
    assert await server.count.remote() == before


# ---- which server ----


@pytest.fixture(scope="module")
def fleet(server: Any) -> dict[str, Any]:
    return {
        f"server_{number}": ray.remote(Server).options(name=f"server_{number}", num_cpus=0).remote()
        for number in range(3)
    }


@pytest.fixture
def servers(fleet: dict[str, Any]) -> dict[str, Any]:
    ray.get([each.forget.remote() for each in fleet.values()])
    return fleet


async def homes(servers: dict[str, Any]) -> dict[int, set[str]]:
    """Where the calls of each trajectory went. A trajectory's prompts here are its number."""
    found: dict[int, set[str]] = {}
    for name, each in servers.items():
        for number, _ in await each.seen.remote():
            found.setdefault(number, set()).add(name)
    return found


async def test_policy_and_shared_base_calls_of_a_trajectory_meet_on_one_server_in_verls_balancer(
    servers: dict[str, Any],
) -> None:
    """verl keeps a request id on the server that it chose first; ours is the trajectory's, for
    every module.
    """
    rollout = SimpleNamespace(name="vllm", full_determinism=False)
    config = SimpleNamespace(actor_rollout_ref=SimpleNamespace(rollout=rollout))
    policy = abort_when_cancelled(
        LLMServerClient(
            config, ray.remote(GlobalRequestLoadBalancer).options(num_cpus=0).remote(servers)
        )
    )
    base = base_generate((), policy)
    for _ in range(3):
        await asyncio.gather(
            *(
                policy.generate(f"t{number}", prompt_ids=[number], sampling_params={})
                for number in range(1, 13)
            )
        )
        await asyncio.gather(
            *(
                base(f"t{number}", prompt_ids=[number], sampling_params={})
                for number in range(1, 13)
            )
        )
    assert all(len(home) == 1 for home in (await homes(servers)).values())
    asked = [call for each in servers.values() for call in await each.seen.remote()]
    assert Counter(adapter for _, adapter in asked) == {True: 36, False: 36}
    assert Counter(next(iter(home)) for home in (await homes(servers)).values()) == dict.fromkeys(
        servers, 4
    )


async def test_frozen_replicas_share_the_trajectories_and_keep_each(
    servers: dict[str, Any],
) -> None:
    client = ReplicaClient(tuple(servers))
    for _ in range(3):
        await asyncio.gather(
            *(
                client.generate(f"t{number}", prompt_ids=[number], sampling_params={})
                for number in range(1, 13)
            )
        )
    found = await homes(servers)
    assert all(len(home) == 1 for home in found.values())
    assert Counter(next(iter(home)) for home in found.values()) == dict.fromkeys(servers, 4)


async def test_a_dead_frozen_replica_is_replaced_by_another_while_there_is_one(
    servers: dict[str, Any],
) -> None:
    """The last test of this file: nothing is left of the servers."""
    client = ReplicaClient(tuple(servers))
    for last, (_, each) in enumerate(servers.items()):
        ray.kill(each)
        with pytest.raises(RayActorError):
            while True:  # a call may still be answered
                await each.forget.remote()
        for number in range(6):
            call = client.generate(f"t{number}", prompt_ids=[1], sampling_params={})
            if last < len(servers) - 1:
                assert (await call).token_ids == [1]
            else:
                with pytest.raises(InfraError, match="frozen base replica server_|no URL answers"):
                    await call


def test_the_frozen_base_has_a_context_where_verl_configures_none() -> None:
    """verl's max_model_len is null by default; a prompt limit must come out all the same."""
    rollout = SimpleNamespace(max_model_len=None, prompt_length=4096, response_length=512)
    assert context_length(rollout, 1024) == 4096 + 1024
    rollout.max_model_len = 2048
    assert context_length(rollout, 1024) == 2048
