"""verl's worker on gloo in processes of its own, and the bytes that it really holds.

``Peak`` counts the storages that torch's operators make, so an engine's peak is known without a
GPU's allocator.
"""

from __future__ import annotations

import socket
import weakref
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.benchmarks.device import enter


@dataclass(frozen=True)
class Way:
    """How the worker is set up."""

    strategy: str = "fsdp2"
    compute: str = "bf16"
    shares: bool = False
    checkpointing: bool = True
    lora_rank: int = 0


class Peak(TorchDispatchMode):
    """Bytes of storages made inside, and the most of them at once."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.most = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        found = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor) and not isinstance(tensor, DTensor):
                self._add(tensor)
        return found

    def _add(self, tensor: Tensor) -> None:
        try:
            storage = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):  # a nested tensor has several
            return
        key, size = storage._cdata, storage.nbytes()
        if key not in self._seen:
            self._seen.add(key)
            self.live += size
            self.most = max(self.most, self.live)
            weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size


def measure(model: Path, way: Way, rows: list[tuple[Tensor, Tensor]], ranks: int, folder: Path):
    """One update, and a checkpoint: what each rank holds, in bytes, and ``log_probs`` of rank 0."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.save(rows, folder / "rows.pt")
    multiprocessing.spawn(_rank, (ranks, port, model, way, folder), nprocs=ranks, join=True)
    return [torch.load(folder / f"found-{rank}.pt") for rank in range(ranks)]


def _rank(rank: int, ranks: int, port: int, model: Path, way: Way, folder: Path) -> None:
    enter("cpu", port, rank, ranks)
    from verl.trainer.config import CheckpointConfig
    from verl.utils import tensordict_utils as tu
    from verl.workers.config import (
        ActorConfig,
        FSDPEngineConfig,
        FSDPOptimizerConfig,
        HFModelConfig,
        TrainingWorkerConfig,
    )

    from agentflow_verl.trainer.actor_loss import choose_loss
    from agentflow_verl.trainer.cpu.engine import CpuTrainingWorker
    from agentflow_verl.trainer.shared_prefix.engine import SHARED_PREFIX
    from tests.benchmarks.shared_prefix import batch_of

    if way.strategy == "fsdp":
        _let_fsdp1_stay_on_the_host()
    precision = {"param_dtype": way.compute, "reduce_dtype": "fp32", "buffer_dtype": "fp32"}
    worker = CpuTrainingWorker(
        TrainingWorkerConfig(
            model_type="language_model",
            model_config=HFModelConfig(
                path=str(model),
                use_remove_padding=False,
                enable_gradient_checkpointing=way.checkpointing,
                lora_rank=way.lora_rank,
                override_config={"attn_implementation": "sdpa"},
            ),
            engine_config=FSDPEngineConfig(
                strategy=way.strategy, use_torch_compile=False, mixed_precision=precision
            ),
            optimizer_config=FSDPOptimizerConfig(lr=1e-3),
            checkpoint_config=CheckpointConfig(),
        )
    )
    torch.set_num_threads(1)
    config = ActorConfig(strategy=way.strategy, rollout_n=4, use_dynamic_bsz=True)
    worker.set_loss_fn(partial(choose_loss, config=config))
    worker.reset()
    rows = torch.load(folder / "rows.pt")
    share = rows[rank * len(rows) // ranks : (rank + 1) * len(rows) // ranks]

    def batch() -> Any:
        data = batch_of(share)
        facts = {
            "temperature": 0.7,
            "calculate_entropy": False,
            "global_batch_size": len(rows),
            "distillation_use_topk": False,
            "use_dynamic_bsz": True,
            "max_token_len_per_gpu": 1 << 20,
        }
        tu.assign_non_tensor(data, **facts, **({SHARED_PREFIX: True} if way.shares else {}))
        return data

    def update() -> None:
        data = batch()
        tu.assign_non_tensor(
            data, num_mini_batch=1, epochs=1, seed=1, dataloader_kwargs={"shuffle": False}
        )
        worker.train_mini_batch(data)

    data = batch()
    tu.assign_non_tensor(data, compute_loss=False)
    log_probs = list(worker.infer_batch(data)["log_probs"].unbind())
    update()  # makes the optimizer's state
    with Peak() as peak:
        update()
    data = batch()
    tu.assign_non_tensor(data, compute_loss=False)
    after = list(worker.infer_batch(data)["log_probs"].unbind())
    worker.save_checkpoint(str(folder / "checkpoint"), global_step=1)
    parameters = worker.engine.module.parameters()
    found = {
        **held_bytes(worker),
        "trained": sum(_local_bytes(one) for one in parameters if one.requires_grad),
        "peak": peak.most,
        "log_probs": log_probs,
        "after": after,
    }
    torch.save(found, folder / f"found-{rank}.pt")


def held_bytes(worker: Any) -> dict[str, int]:
    """What a worker of verl's holds between updates."""
    moments = [
        value
        for state in worker.engine.optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor) and value.dim()
    ]
    return {
        "weights": sum(map(_local_bytes, worker.engine.module.parameters())),
        "optimizer": sum(map(_local_bytes, moments)),
    }


def _let_fsdp1_stay_on_the_host() -> None:
    """FSDP1 sends rank 0's weights to the others on GPUs only: here they are sent before."""
    from torch.distributed.fsdp import FullyShardedDataParallel
    from verl.workers.engine.fsdp import transformer_impl

    class OnHost(FullyShardedDataParallel):
        def __init__(self, module: torch.nn.Module, *args: Any, **kwargs: Any):
            if dist.get_rank():  # verl has loaded nothing here
                module.to_empty(device="cpu")
            for tensor in (*module.parameters(), *module.buffers()):
                dist.broadcast(tensor.data, 0)
            kwargs["sync_module_states"] = False
            super().__init__(module, *args, **kwargs)

    transformer_impl.FSDP = OnHost


def _local_bytes(tensor: Tensor) -> int:
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).nbytes
