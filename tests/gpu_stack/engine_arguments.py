"""The rollout engine's own argument object for each recipe, as verl's server builds it: ``python -m
tests.gpu_stack.engine_arguments vllm|sglang``, in an environment for GPUs.

verl's server goes as far as it can without a GPU: all options are turned into the engine's, parsed
and checked by the installed release, and then kept instead of starting an engine. Prints one JSON
line per recipe.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from contextlib import ExitStack, suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import verl  # noqa: F401 - registers the search path
from hydra import compose, initialize_config_dir

RECIPES = Path(__file__).parents[2] / "recipes"
VERL = "hydra.searchpath=[pkg://verl.trainer.config]"
NAMES = (
    "paper/paper",
    "one_gpu/full",
    "one_gpu/lora",
    "multi_node/multi_node",
    "async/colocate",
    "async/separate",
)
SHOWN = {
    "vllm": ("tensor_parallel_size", "gpu_memory_utilization", "max_model_len", "enable_lora"),
    "sglang": ("tp_size", "mem_fraction_static", "context_length", "enable_lora"),
}


class Kept(Exception):
    """The engine's arguments were built."""

    def __init__(self, arguments: Any):
        super().__init__()
        self.arguments = arguments


class Kernels(ModuleType):
    """A module that has every name."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return mock.MagicMock()


class NoKernels(MetaPathFinder, Loader):
    """Finds ``sgl_kernel``, whose library needs a GPU's driver to be imported."""

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        if name.partition(".")[0] != "sgl_kernel":
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return Kernels(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def server_of(engine: str, config: Any) -> Any:
    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers.rollout.replica import RolloutMode

    model = omega_conf_to_dataclass(config.actor_rollout_ref.model)
    where: dict[str, int]
    if engine == "vllm":
        from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer as server

        where = {"gpus_per_node": 8}
    else:
        where = {"base_gpu_id": 0}
        from verl.workers.rollout.sglang_rollout.async_sglang_server import (
            SGLangHttpServer as server,
        )
    return server(
        config=config.actor_rollout_ref.rollout,
        model_config=model,
        rollout_mode=RolloutMode.HYBRID,
        workers=[],
        replica_rank=0,
        node_rank=0,
        nnodes=1,
        cuda_visible_devices="0",
        **where,
    )


def arguments_of(engine: str, config: Any) -> Any:
    """vLLM's AsyncEngineArgs, or SGLang's ServerArgs."""
    server = server_of(engine, config)
    patches: list[Any] = []
    if engine == "vllm":
        from vllm.platforms import current_platform

        current_platform.device_type = "cuda"  # it finds no GPU to infer that from
        from vllm.engine.arg_utils import AsyncEngineArgs

        async def keep(arguments: Any) -> None:
            raise Kept(AsyncEngineArgs.from_cli_args(arguments))

        patches.append(mock.patch.object(server, "run_server", keep))
    else:
        from sglang.srt import server_args
        from sglang.srt.entrypoints.http_server import Engine

        def keep_server(*_: Any, **given: Any) -> None:
            raise Kept(given["server_args"])

        patches.append(mock.patch.object(Engine, "_launch_subprocesses", keep_server))
        # What ServerArgs asks of a GPU: an H100's answers.
        for name, answer in (("get_device", "cuda"), ("get_device_memory_capacity", 81_559)):
            patches.append(mock.patch.object(server_args, name, return_value=answer))
    with ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        try:
            asyncio.run(server.launch_server())
        except Kept as kept:
            return kept.arguments
    raise AssertionError("verl's server built no arguments")


def main() -> None:
    (engine,) = sys.argv[1:]
    if engine == "sglang":
        sys.meta_path.insert(0, NoKernels())
    with tempfile.TemporaryDirectory() as folder:
        print_arguments(engine, long_model(Path(folder) / "model"))


def long_model(folder: Path) -> Path:
    """The quickstart's model, said to read as long texts as the recipes' models do."""
    shutil.copytree(RECIPES / "quickstart/base", folder)
    file = folder / "config.json"
    config = {**json.loads(file.read_text()), "max_position_embeddings": 131072}
    file.write_text(json.dumps(config))
    return folder


def print_arguments(engine: str, model: Path) -> None:
    job = mock.Mock(**{"get_job_id.return_value": "01000000"})
    with mock.patch("ray.get_runtime_context", return_value=job):
        for name in NAMES:
            overrides = [f"actor_rollout_ref.model.path={model}"]
            overrides.append(f"actor_rollout_ref.rollout.name={engine}")
            with initialize_config_dir(str(RECIPES), version_base=None):
                config = compose(name, [VERL, *overrides])
            found = arguments_of(engine, config)
            line: dict[str, Any] = {"recipe": name}
            for option in SHOWN[engine]:
                with suppress(AttributeError):
                    line[option] = getattr(found, option)
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
