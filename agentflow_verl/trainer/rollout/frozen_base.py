"""The frozen base: the checkpoint that the policy started from, on rollout servers of its own.

verl's ``RolloutReplica.init_standalone`` makes a server outside the trainer's resource pool; no
weight is ever sent to it, so the workers beside it only hold its GPUs. ``load_format`` must be set:
verl's default is ``dummy``, which would freeze random weights.
"""

from __future__ import annotations

import asyncio
import copy
from functools import partial
from typing import Any
from uuid import uuid4

import ray
from omegaconf import DictConfig, OmegaConf, open_dict
from ray.exceptions import RayActorError
from verl.single_controller.base import Worker
from verl.single_controller.ray import RayClassWithInitArgs
from verl.workers.rollout.llm_server import LLMServerClient
from verl.workers.rollout.replica import RolloutReplica, TokenOutput, get_rollout_replica_class

from agentflow_verl.config.schema import AgentflowConfig
from agentflow_verl.core.balancer import Replicas
from agentflow_verl.core.interruptions import aborted, sent_again
from agentflow_verl.core.server_errors import ServerFault
from agentflow_verl.engines.token_engine import Generate
from agentflow_verl.trainer.rollout.lora_sharing import can_share


def context_length(rollout: Any, reply_limit: int) -> int:
    """Tokens of context that the frozen base serves: the configured length, or prompt and longest
    reply together.
    """
    if rollout.max_model_len:
        return int(rollout.max_model_len)
    return int(rollout.prompt_length) + max(int(rollout.response_length), reply_limit)


def base_replicas(config: DictConfig, settings: AgentflowConfig) -> int:
    """How many frozen servers the run starts: none where no module asks for the base, or where the
    policy's servers answer for it."""
    if not settings.needs_base:
        return 0
    return settings.base.replicas or (0 if can_share(config.actor_rollout_ref) else 1)


def make_base(config: DictConfig, replicas: int, reply_limit: int) -> list[RolloutReplica]:
    """``replicas`` frozen servers of ``actor_rollout_ref.model.path``, not yet started. Each takes
    as many GPUs as its parallel sizes say, beside the trainer's."""
    rollout = copy.deepcopy(config.actor_rollout_ref.rollout)
    with open_dict(rollout):
        rollout.load_format = "auto"
        rollout.max_model_len = context_length(rollout, reply_limit)
    source = config.actor_rollout_ref.model
    # A model config of its own rather than a copy of the policy's: that one has the LoRA options,
    # and the base is the checkpoint without them.
    model = OmegaConf.create(
        {
            "_target_": "verl.workers.config.HFModelConfig",
            "path": source.path,
            "tokenizer_path": source.tokenizer_path,
            "trust_remote_code": source.trust_remote_code,
            "custom_chat_template": source.get("custom_chat_template"),
            "override_config": OmegaConf.to_container(source.override_config, resolve=True),
        }
    )

    replica_class: Any = get_rollout_replica_class(rollout.name)

    class FrozenReplica(replica_class):
        def get_ray_class_with_init_args(self) -> RayClassWithInitArgs:
            # verl's own worker loads an engine to receive weights, which never come
            return RayClassWithInitArgs(cls=ray.remote(Worker))

    # Ray names are unique in a cluster, which may hold several runs.
    suffix = f"agentflow_base_{uuid4().hex[:8]}"
    return [
        FrozenReplica(
            replica_rank=rank,
            config=rollout,
            model_config=model,
            gpus_per_node=rollout.n_gpus_per_node,
            is_teacher_model=True,  # its own Ray names, apart from the policy's
            name_suffix=suffix,
        )
        for rank in range(replicas)
    ]


def server_name(replica: RolloutReplica) -> str:
    """The Ray actor name under which any process of the run finds the replica's server."""
    return f"{replica.config.name}_server_teacher_{replica.replica_rank}_0{replica.name_suffix}"


def base_generate(servers: tuple[str, ...], policy: LLMServerClient) -> Generate:
    """Asks the frozen base: ``servers`` by their Ray names, or where there are none the policy's,
    the adapter off.
    """
    return ReplicaClient(servers).generate if servers else partial(policy.generate, adapter=False)


ABORTED = ("aborted", "abort")
"""Stop reasons after which verl's FullyAsyncLLMServerClient sends a request again, a second later.
"""


class ReplicaClient:
    """Calls the frozen servers by their Ray names: a trajectory's first call goes where the fewest
    of this process are in flight, the rest of them to the same server, for its prefix cache, and to
    another if that dies.
    """

    def __init__(self, names: tuple[str, ...]):
        self.servers = {name: ray.get_actor(name) for name in names}
        self.replicas = Replicas(names)

    async def generate(
        self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any]
    ) -> TokenOutput:
        """As verl's LLMServerClient.generate. Raises InfraError where no server is alive."""
        dead: set[str] = set()
        while True:
            try:
                with self.replicas.one(dead, session=request_id) as name:
                    return await self._ask(
                        name,
                        prompt_ids=prompt_ids,
                        sampling_params=dict(sampling_params),
                        request_id=uuid4().hex,
                    )
            except ServerFault:
                # The call is sent again elsewhere: sampling changes nothing on a server, so it may
                # be repeated.
                dead.add(name)
                if not self.replicas.another(than=dead):
                    raise

    async def _ask(self, name: str, **request: Any) -> TokenOutput:
        try:
            return await Abortable(self.servers[name]).remote(**request)
        except RayActorError as death:
            raise ServerFault(f"frozen base replica {name}: {type(death).__name__}") from death


class Abortable:
    """A rollout server whose ``generate`` ends when its caller is cancelled: Ray cancels the task
    in the server, and the server aborts the request of a task that is cancelled (SGLang's by
    sglang_server.py). Awaiting a Ray call alone leaves it running.
    """

    def __init__(self, server: Any):
        self.server = server

    @property
    def generate(self) -> Abortable:
        return self

    async def remote(self, **arguments: Any) -> TokenOutput:
        sent_again()
        call = self.server.generate.remote(**arguments)
        try:
            output: TokenOutput = await call
        except asyncio.CancelledError:
            # Of an actor's coroutine, ray.cancel raises CancelledError inside it, so the engine's
            # own clean-up runs; it ends no process.
            ray.cancel(call)
            raise
        if getattr(output, "stop_reason", None) in ABORTED:
            aborted()
        return output


def abort_when_cancelled(client: LLMServerClient) -> LLMServerClient:
    """Make verl's client of the policy hand out servers that are ``Abortable``."""
    replaced: Any = client
    acquire = client._acquire_server

    async def acquire_abortable(*args: Any, **kwargs: Any) -> tuple[str, Abortable]:
        name, server = await acquire(*args, **kwargs)
        return name, Abortable(server)

    replaced._acquire_server = acquire_abortable
    return client
