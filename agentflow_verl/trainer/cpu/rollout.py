"""vLLM's CPU backend as a rollout replica whose weights can be updated."""

from __future__ import annotations

from typing import Any

import ray
from verl.workers.rollout.replica import RolloutReplica, RolloutReplicaRegistry


def register() -> None:
    RolloutReplicaRegistry.register("vllm", _load)


def _load() -> type[RolloutReplica]:
    # Imported here, since it loads vLLM, which takes seconds that only a rollout process must
    # spend.
    from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer, vLLMReplica

    class CpuVllmServer(vLLMHttpServer):
        """vLLM's server with a worker that keeps plain weights (weights.py)."""

        def _get_worker_extension_cls(self) -> str:
            return "agentflow_verl.trainer.cpu.weights.PlainWeights"

    class CpuVllmReplica(vLLMReplica):
        def __init__(self, *args: Any, **kwargs: Any):
            super().__init__(*args, **kwargs)
            self.server_class = ray.remote(CpuVllmServer)

    return CpuVllmReplica
