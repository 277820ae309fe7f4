"""FSDP2 over gloo. Each class names the line of verl 0.9.1 that it works around."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine_workers import TrainingWorker

from agentflow_verl.trainer.shared_prefix.engine import SharedPrefixEngine


class CpuTrainingWorker(TrainingWorker):
    """Starts gloo first: verl would ask for "cpu:gloo,cpu:gloo", which torch refuses
    (utils/distributed.py:89).

    Takes its share of the cores: while it works, the rollout engines wait.
    """

    def __init__(self, config: Any):
        ranks = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("WORLD_SIZE", 1)))
        # Adam's moments of rare tokens decay into denormals, which are slow on a CPU
        torch.set_flush_denormal(True)
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks))
        if not dist.is_initialized():
            dist.init_process_group(
                backend="gloo",
                rank=int(os.environ.get("RANK", 0)),
                world_size=int(os.environ.get("WORLD_SIZE", 1)),
                init_method=os.environ.get("DIST_INIT_METHOD"),
            )
        super().__init__(config)


@EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device="cpu")
class CpuFSDPEngine(SharedPrefixEngine):
    """A reference model would be offloaded to pinned CPU memory, which needs an accelerator
    (fsdp/transformer_impl.py).
    """

    def _build_fsdp_module(self, module: Any) -> Any:
        config, forward_only = self.engine_config, self.engine_config.forward_only
        # verl's dataclass refuses an assignment. The value is put back below, since the engine
        # reads it elsewhere too.
        object.__setattr__(config, "forward_only", False)
        try:
            return super()._build_fsdp_module(module)
        finally:
            object.__setattr__(config, "forward_only", forward_only)
