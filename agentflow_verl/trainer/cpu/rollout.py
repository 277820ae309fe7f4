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
        """vLLM's server with a worker that keeps plain weights (weights.py).

        ``full_determinism`` is the seeds of calls alone: vLLM's batch-invariant kernels are
        Triton's, and its engine dies of them on a CPU.
        """

        def _init_config(self, config: Any) -> Any:
            found = super()._init_config(config)
            self._seeded = found.full_determinism
            found.full_determinism = False
            return found

        def _validate_configs(self) -> None:
            super()._validate_configs()
            if self._seeded:
                # A prompt in parts would have its generator set back, which a CPU's cannot; and
                # without parts a batch must hold the longest. verl's dataclass refuses assignments.
                most = max(self.config.max_num_batched_tokens, self.config.max_model_len)
                object.__setattr__(self.config, "enable_chunked_prefill", False)
                object.__setattr__(self.config, "max_num_batched_tokens", most)

        def _preprocess_engine_kwargs(self, engine_kwargs: dict[str, Any]) -> None:
            super()._preprocess_engine_kwargs(engine_kwargs)
            if self._seeded:
                # Else its sampler asks no call's generator unless every call of a batch has one.
                engine_kwargs.setdefault("use_fp64_gumbel", True)

        def _get_worker_extension_cls(self) -> str:
            return "agentflow_verl.trainer.cpu.weights.PlainWeights"

    class CpuVllmReplica(vLLMReplica):
        def __init__(self, *args: Any, **kwargs: Any):
            super().__init__(*args, **kwargs)
            self.server_class = ray.remote(CpuVllmServer)

    return CpuVllmReplica
