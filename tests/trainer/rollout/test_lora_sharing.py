"""LoRA: the frozen base is the policy's server with the adapter off, chosen per request, through
verl's own server code.
"""

from __future__ import annotations

import asyncio
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import verl  # noqa: F401 - registers the search path
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from agentflow_verl.config import schema
from agentflow_verl.trainer.cpu.platform import answer_to_vllm
from agentflow_verl.trainer.rollout.frozen_base import base_replicas
from agentflow_verl.trainer.rollout.lora_sharing import AdapterSwitch, can_share
from agentflow_verl.trainer.rollout.worker_settings import resolve_node

LORA = "actor_rollout_ref.model.lora_rank=8"


@cache
def shipped() -> DictConfig:
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("agentflow", ["platform=cpu", "actor_rollout_ref.model.path=model"])


def composed(*overrides: str) -> DictConfig:
    return OmegaConf.merge(shipped(), OmegaConf.from_dotlist(list(overrides)))


@pytest.mark.parametrize(
    ("overrides", "shared", "replicas"),
    [
        ([], False, 1),
        ([LORA], True, 0),
        (["actor_rollout_ref.model.lora.rank=8"], True, 0),
        ([LORA, "actor_rollout_ref.model.lora.merge=true"], False, 1),
        ([LORA, "actor_rollout_ref.rollout.name=sglang"], False, 1),
        ([LORA, "agentflow.base.replicas=2"], True, 2),
        (["agentflow.base.replicas=2"], False, 2),
    ],
)
def test_the_base_needs_no_servers_where_the_policys_hold_the_adapter_apart(
    overrides, shared, replicas
):
    config = composed(*overrides)
    assert can_share(config.actor_rollout_ref) is shared
    assert base_replicas(config, schema.load(resolve_node(config.agentflow))) == replicas


def test_no_servers_are_started_for_a_base_that_no_module_asks():
    slots = [f"agentflow.engines.{module}=policy" for module in schema.EnginesConfig.model_fields]
    config = composed(*slots)
    assert base_replicas(config, schema.load(resolve_node(config.agentflow))) == 0


# ---- the request ----


class Engine:
    """vLLM's engine as verl's server calls it: notes the adapter of each request."""

    def __init__(self) -> None:
        self.adapters: dict[str, str | None] = {}
        self.loaded = [123]

    async def list_loras(self) -> list[int]:
        await asyncio.sleep(0)
        return self.loaded

    async def generate(self, *, request_id: str, lora_request: Any, **_: Any) -> Any:
        self.adapters[request_id] = lora_request and lora_request.lora_name
        await asyncio.sleep(0)
        completion = SimpleNamespace(
            token_ids=[1], logprobs=None, finish_reason="stop", routed_experts=None
        )
        yield SimpleNamespace(
            outputs=[completion], num_cached_tokens=3, prompt_logprobs=None, metrics=None
        )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    """verl's vLLM server with our switch, over ``Engine``; nothing of it is started."""
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    answer_to_vllm()
    from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer

    made = object.__new__(type("Server", (AdapterSwitch, vLLMHttpServer), {}))

    async def admit(request_id: str) -> None:
        made._admitting += 1

    rollout = composed(LORA, "actor_rollout_ref.rollout.max_model_len=64").actor_rollout_ref.rollout
    vars(made).update(
        config=rollout,
        model_config=SimpleNamespace(lora_rank=8, lora={}, processor=None),
        engine=Engine(),
        replica_rank=0,
        global_steps=1,
        _disaggregation_role=None,
        _admitting=0,
        _park_until_admitted=admit,
    )
    return made


async def generate(server: Any, request_id: str, **more: Any) -> Any:
    return await server.generate(
        prompt_ids=[5, 6], sampling_params={"max_tokens": 4}, request_id=request_id, **more
    )


async def test_requests_in_flight_together_have_the_adapter_that_each_asked_for(server):
    await asyncio.gather(
        *(
            generate(server, f"{number}", **({} if number % 2 else {"adapter": False}))
            for number in range(20)
        )
    )
    assert server.engine.adapters == {
        f"{number}": "123" if number % 2 else None for number in range(20)
    }


async def test_one_task_may_ask_for_both_and_the_server_stays_one_with_an_adapter(server):
    for adapter in (False, True, False, True):
        await generate(server, str(adapter), adapter=adapter)
        assert server.lora_as_adapter
    assert server.engine.adapters == {"False": None, "True": "123"}


async def test_the_servers_count_of_cached_prompt_tokens_comes_back(server):
    assert (await generate(server, "t", adapter=False)).extra_fields["num_cached_tokens"] == 3
