"""SGLang on a CPU, where its wheel is made for GPUs: what it imports and cannot have, and how
weights reach it.

Everything that a CPU needs of SGLang's code stands here, each with the upstream line. What is
configuration stands in config/platform/cpu.yaml. ``prepare`` imports nothing of SGLang: it runs in
every process of a CPU run, and takes effect where SGLang is imported.

===============================  ==================================================================
srt/utils/common.py:90,          import torchvision, for images. PyPI's does not match a CPU torch,
srt/multimodal/                  and would break vLLM's CPU build beside it
internvl_utils.py:5
srt/configs/utils.py:18          registers models' image processors, which transformers refuses
                                 without torchvision
srt/mem_cache/                   imports ``sgl_kernel.kvcacheio``, which has no CPU build on PyPI;
memory_pool_host.py:47           used by a cache that spills from a GPU to its host
srt/constrained/                 ends the scheduler with "Unsupported device: cpu" at the first
xgrammar_backend.py:123, 245     reply that is held to a schema; SGLang's own way for NPUs does it
srt/entrypoints/engine.py:614,   spawn the scheduler and the detokenizer, which must be prepared
704                              before they import SGLang
srt/weight_sync/utils.py:36      ``monkey_patch_torch_reductions`` expects a device's tensor
                                 (srt/utils/patch_torch.py:75). A CPU's would go by file descriptor,
                                 which only a process's relatives may ask for
srt/utils/common.py:2277         lists the modules whose names such a message may hold
===============================  ==================================================================
"""

from __future__ import annotations

import importlib
import importlib.metadata
import math
import os
import runpy
import sys
import tempfile
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from multiprocessing.reduction import ForkingPickler
from types import ModuleType
from typing import Any

import wrapt

VERSION = "0.5.12"  # install.sh installs it; the lines above are this version's
KERNEL = ("sgl_kernel", "sgl_kernel.kvcacheio")
VISION = "torchvision"
UNPICKLER = "sglang.srt.utils.common"
SHARED_MEMORY = "/dev/shm"
WEIGHTS = "agentflow_weights_"  # then the process that made it; resilience/cleanup.py knows it
ASK_FOR_VISION = ("sglang.srt.utils.common", "sglang.srt.multimodal.internvl_utils")


def wrong_version() -> str | None:
    """The installed version, where it is another than the one that this module is made for."""
    try:
        found = importlib.metadata.version("sglang")
    except importlib.metadata.PackageNotFoundError:
        return None
    return None if found == VERSION else found


def prepare() -> None:
    """Let this process import SGLang."""
    if any(isinstance(finder, StandIns) for finder in sys.meta_path):
        return
    # First, so that a kernel which someone has built is not used: it serves no fp32, and copies new
    # weights over those that it has repacked.
    sys.meta_path.insert(0, StandIns())
    for module, change in (
        *((name, _remove_vision) for name in ASK_FOR_VISION),
        ("sglang.srt.configs.utils", _without_image_processors),
        ("sglang.srt.constrained.xgrammar_backend", _mask_on_cpu),
        ("sglang.srt.entrypoints.engine", _prepare_children),
        (UNPICKLER, _allow_read_tensor),
        ("sglang.srt.utils.patch_torch", _send_by_files),
    ):
        wrapt.register_post_import_hook(change, module)


class StandIns(MetaPathFinder, Loader):
    """Empty modules in the place of those that SGLang imports on a CPU and never uses there."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        vision = name.partition(".")[0] == VISION and any(map(_is_importing, ASK_FOR_VISION))
        if name in KERNEL or vision:
            return ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class StandIn(ModuleType):
    """Has every function, except that the kernel itself has none: SGLang looks there for what it
    may use.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or self.__name__ == KERNEL[0]:
            raise AttributeError(name)

        def missing(*_: Any, **__: Any) -> None:
            raise NotImplementedError(f"{self.__name__}.{name} is not there on a CPU")

        return missing


def _is_importing(name: str) -> bool:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))  # importlib's own mark


def _remove_vision(_: ModuleType) -> None:
    """Leave no trace of it: transformers looks whether torchvision is there."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == VISION and isinstance(module, StandIn):
            del sys.modules[name]


def _allow_read_tensor(common: Any) -> None:
    common.SafeUnpickler.ALLOWED_MODULE_PREFIXES.add(f"{__name__}.")


def _without_image_processors(utils: Any) -> None:
    utils.register_image_processor = lambda *_: None


def _mask_on_cpu(backend: Any) -> None:
    def apply_vocab_mask(logits: Any, vocab_mask: Any) -> None:
        backend.apply_token_bitmask_inplace_torch(logits, vocab_mask)

    for owner in (backend.XGrammarGrammar, backend.XGrammarGrammarBackend):
        owner.apply_vocab_mask = staticmethod(apply_vocab_mask)


def _prepare_children(engine: Any) -> None:
    scheduler = child_process("sglang.srt.managers.scheduler", "run_scheduler_process")
    detokenizer = child_process(
        "sglang.srt.managers.detokenizer_manager", "run_detokenizer_process"
    )
    # verl reads them from the module (async_sglang_server.py:433), SGLang's own server from the
    # class.
    engine.run_scheduler_process = scheduler
    engine.run_detokenizer_process = detokenizer
    engine.Engine.run_scheduler_process_func = staticmethod(scheduler)
    engine.Engine.run_detokenizer_process_func = staticmethod(detokenizer)


@dataclass(frozen=True)
class ChildProcess:
    """A function of SGLang's as what a spawned process runs. The process unpickles this before the
    function's arguments, which are SGLang's, and is prepared by that.
    """

    module: str
    function: str

    def __call__(self, *arguments: Any, **named: Any) -> None:
        getattr(importlib.import_module(self.module), self.function)(*arguments, **named)

    def __reduce__(self) -> tuple[Any, ...]:
        return child_process, (self.module, self.function)


def child_process(module: str, function: str) -> ChildProcess:
    """A ``ChildProcess``, in a process that is prepared."""
    prepare()
    return ChildProcess(module, function)


def _send_by_files(patch_torch: Any) -> None:
    patch_torch.monkey_patch_torch_reductions = _register_reduction


def _register_reduction() -> None:
    """Pickled for another process, a tensor of this one is a file in shared memory from now on."""
    import torch

    ForkingPickler.register(torch.Tensor, _write_tensor)


def _write_tensor(tensor: Any) -> tuple[Any, ...]:
    import torch

    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    # torch's own way to share by name asks a process of torch's within a second, which is too
    # little on a busy machine ("Shared memory manager connection has timed out").
    file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - its reader removes it
        dir=SHARED_MEMORY, prefix=f"{WEIGHTS}{os.getpid()}_", delete=False
    )
    with file:
        file.write(content.numpy())
    return read_tensor, (file.name, tensor.dtype, tuple(tensor.shape))


def read_tensor(path: str, dtype: Any, shape: tuple[int, ...]) -> Any:
    """The tensor in such a file, which is removed. Called once per file: each rank has its own."""
    import torch

    if not path.startswith(f"{SHARED_MEMORY}/{WEIGHTS}"):
        raise ValueError(f"no file of weights: {path}")
    try:
        flat = torch.from_file(path, shared=False, size=math.prod(shape), dtype=dtype)
        return flat.reshape(shape)
    finally:
        os.unlink(path)


def serve() -> None:
    """SGLang's own server, with the arguments of this process, for ``agentflow eval``."""
    os.environ["SGLANG_USE_CPU_ENGINE"] = "1"
    prepare()
    runpy.run_module("sglang.launch_server", run_name="__main__")
