"""The frozen base without a server of its own: the policy's servers, asked with the LoRA adapter
off.

A LoRA run freezes the checkpoint's weights and trains an adapter beside them. verl serves both from
one server: it sends the weights once and the adapter after each step, and names the adapter in
every request while its property ``lora_as_adapter`` is true (vllm_async_server.py:653).
``AdapterSwitch`` makes that true or false per request.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import ray
from omegaconf import DictConfig
from verl.workers.rollout.replica import (
    RolloutReplica,
    RolloutReplicaRegistry,
    get_rollout_replica_class,
)

from agentflow_verl.trainer.actor_class import wrapped_class

SWITCHES = ("vllm",)  # the rollout engines that this was run with
# each request is a task, with a context of its own
_adapter: ContextVar[bool] = ContextVar("adapter", default=True)


def serves_adapter(actor_rollout_ref: Any) -> bool:
    """Whether the rollout servers hold the checkpoint's own weights and the adapter apart, as
    verl's servers decide it.
    """
    model = actor_rollout_ref.model
    rank = max(model.get("lora_rank", 0) or 0, (model.get("lora") or {}).get("rank", 0) or 0)
    return rank > 0 and not (model.get("lora") or {}).get("merge", False)


def can_share(actor_rollout_ref: Any) -> bool:
    """Whether the policy's servers can also answer as the frozen base."""
    rollout = actor_rollout_ref.rollout
    return (
        serves_adapter(actor_rollout_ref)
        and rollout.name in SWITCHES
        and not rollout.disaggregation.enabled
    )


if TYPE_CHECKING:
    Server: Any
else:  # mixed over verl's server at run time, in ``with_switch``
    Server = object


class AdapterSwitch(Server):
    """Over one of verl's rollout servers: ``generate(..., adapter=False)`` samples from the
    checkpoint's weights alone.
    """

    @property
    def lora_as_adapter(self) -> bool:
        return bool(super().lora_as_adapter) and _adapter.get()

    async def generate(self, *arguments: Any, adapter: bool = True, **named: Any) -> Any:
        before = _adapter.set(adapter)
        try:
            return await super().generate(*arguments, **named)
        finally:
            _adapter.reset(before)


def with_switch(replica_class: type[RolloutReplica]) -> type[RolloutReplica]:
    """``replica_class``, whose servers have an ``AdapterSwitch``."""
    base: Any = replica_class

    class SwitchingReplica(base):
        server_class: Any

        def __init__(self, *arguments: Any, **named: Any):
            super().__init__(*arguments, **named)
            server = wrapped_class(self.server_class)
            # type() and not a class statement: the server's class differs between engines and
            # platforms (the CPU's is a subclass of verl's).
            self.server_class = ray.remote(type("SwitchingServer", (AdapterSwitch, server), {}))

    return SwitchingReplica


def share_rollout(config: DictConfig) -> None:
    """Make ``rollout.name`` mean, in this process, replicas that can leave the adapter off."""
    name = config.actor_rollout_ref.rollout.name
    # Looked up before it is registered again under the same name, or the new entry would call
    # itself.
    replica_class = with_switch(get_rollout_replica_class(name))
    RolloutReplicaRegistry.register(name, lambda: replica_class)
