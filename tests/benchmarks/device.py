"""verl's FSDP2 worker on one device, for measurements that run on a GPU or, in fp32, on a CPU.

On a GPU bf16 over fp32 weights, with flash-attn where it is installed and PyTorch's attention else.
"""

from __future__ import annotations

import os
import resource
import time
from typing import Any

import torch

from agentflow_verl.trainer.installed import has_flash_attn


def attention(device: str) -> tuple[str, bool]:
    """The attention, and whether rows are packed (``use_remove_padding``)."""
    if device == "cuda" and has_flash_attn():
        return "flash_attention_2", True
    return "sdpa", False


def enter(device: str, port: int, rank: int = 0, ranks: int = 1) -> None:
    """Make this process one of ``ranks`` on ``device``, before verl is imported."""
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "DIST_INIT_METHOD": f"tcp://127.0.0.1:{port}",
    }
    if device == "cpu":
        os.environ |= {"VERL_PLATFORM": "cpu", "OMP_NUM_THREADS": "1"}
        from verl.plugin.platform.platform_manager import set_platform

        from agentflow_verl.trainer.cpu.platform import CpuPlatform

        set_platform(CpuPlatform())


def make_worker(model: str, device: str) -> tuple[Any, Any]:
    """verl's worker with the loss of a training run, and the model's configuration."""
    from functools import partial

    from verl.trainer.config import CheckpointConfig
    from verl.workers.config import (
        ActorConfig,
        FSDPEngineConfig,
        FSDPOptimizerConfig,
        HFModelConfig,
        TrainingWorkerConfig,
    )

    from agentflow_verl.trainer.actor_loss import choose_loss
    from agentflow_verl.trainer.cpu import platform
    from agentflow_verl.trainer.shared_prefix import engine  # noqa: F401 - registers the engine

    kind, packs = attention(device)
    compute = "fp32" if device == "cpu" else "bf16"
    config = HFModelConfig(
        path=model,
        use_remove_padding=packs,
        enable_gradient_checkpointing=device != "cpu",
        override_config={"attn_implementation": kind},
    )
    worker = platform.training_worker()(
        TrainingWorkerConfig(
            model_type="language_model",
            model_config=config,
            engine_config=FSDPEngineConfig(
                strategy="fsdp2",
                use_torch_compile=False,
                mixed_precision={
                    "param_dtype": compute,
                    "reduce_dtype": "fp32",
                    "buffer_dtype": "fp32",
                },
            ),
            optimizer_config=FSDPOptimizerConfig(lr=1e-6),
            checkpoint_config=CheckpointConfig(),
        )
    )
    if device == "cpu":
        torch.set_num_threads(1)
    actor = ActorConfig(strategy="fsdp2", rollout_n=8, use_dynamic_bsz=True)
    worker.set_loss_fn(partial(choose_loss, config=actor))
    worker.reset()
    return worker, config


def clock(device: str) -> float:
    """Seconds of the clock on a GPU, of this process on a CPU, where other work does not count."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def peak_bytes(device: str) -> int:
    """The allocator's on a GPU, the process's on a CPU."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return torch.cuda.max_memory_allocated()
