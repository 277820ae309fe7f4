"""verl's FSDP2 engine in processes of its own: ``update(model, cases, ranks, ...)``, and ``infer``.

A plain SGD step moves a parameter by minus the gradient, so the weights afterwards tell the
gradient that verl computed, through its own splitting into mini-batches, micro-batches and ranks.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as multiprocessing
from tensordict import TensorDict
from torch import Tensor
from torch.distributed.tensor import DTensor

# far above the rounding of the weights in one step, and small enough that several do not diverge
LR = 0.05


@dataclass(frozen=True)
class Case:
    """A batch and how it is split: row r goes to rank r // (rows / ranks), its share to
    ``mini_batches`` steps in order.
    """

    fields: dict[str, list[Tensor]]
    mini_batches: int
    splitting: dict[
        str, Any
    ]  # micro_batch_size_per_gpu, or use_dynamic_bsz and max_token_len_per_gpu
    epochs: int = 1


def update(
    model: Path, cases: list[Case], ranks: int, actor: dict[str, Any], folder: Path, **adapter: Any
) -> list[dict[str, Tensor]]:
    """The weights after one ``train_mini_batch`` of verl's worker on each case, every time from the
    same start.

    ``adapter``: fields of verl's HFModelConfig such as ``lora_rank``.
    """
    _run(model, cases, ranks, actor, folder, adapter)
    return torch.load(folder / "weights.pt")


def infer(
    model: Path, cases: list[Case], ranks: int, folder: Path, **adapter: Any
) -> list[dict[str, list[Tensor]]]:
    """What verl's worker computes of each case's rows without an update: ``log_probs`` and
    ``entropy`` of each row, at the position before each token.
    """
    _run(model, cases, ranks, None, folder, adapter)
    shares = [torch.load(folder / f"outputs-{rank}.pt") for rank in range(ranks)]
    found = []
    for of_ranks in zip(*shares):
        whole: dict[str, list[Tensor]] = {}
        for share in of_ranks:
            for name, rows in share.items():
                whole.setdefault(name, []).extend(rows)
        found.append(whole)
    return found


def _run(
    model: Path,
    cases: list[Case],
    ranks: int,
    actor: dict[str, Any] | None,
    folder: Path,
    adapter: dict[str, Any],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(cases, folder / "cases.pt")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(
        _rank, (ranks, port, model, actor, folder, adapter), nprocs=ranks, join=True
    )


def _rank(
    rank: int,
    ranks: int,
    port: int,
    model: Path,
    actor: dict[str, Any] | None,
    folder: Path,
    adapter: dict[str, Any],
) -> None:
    """``actor``: its options for an update; None to infer."""
    address = f"tcp://127.0.0.1:{port}"
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_RANK": str(rank),
        "VERL_PLATFORM": "cpu",
        "DIST_INIT_METHOD": address,
    }
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    from verl.plugin.platform.platform_manager import set_platform

    from agentflow_verl.trainer.cpu.platform import CpuPlatform

    set_platform(CpuPlatform())
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

    config = ActorConfig(strategy="fsdp2", rollout_n=4, use_dynamic_bsz=True, **(actor or {}))
    full = {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}
    engine = FSDPEngineConfig(strategy="fsdp2", use_torch_compile=False, mixed_precision=full)
    worker = CpuTrainingWorker(
        TrainingWorkerConfig(
            model_type="language_model",
            model_config=HFModelConfig(
                path=str(model),
                use_remove_padding=False,
                override_config={"attn_implementation": "sdpa"},
                **{"enable_gradient_checkpointing": False, **adapter},
            ),
            engine_config=engine,
            optimizer_config=FSDPOptimizerConfig(
                optimizer="SGD",
                lr=LR,
                clip_grad=1e9,
                weight_decay=0.0,
                override_optimizer_config={},
            ),
            checkpoint_config=CheckpointConfig(),
        )
    )
    worker.set_loss_fn(partial(choose_loss, config=config))
    after, outputs = [], []
    for case in torch.load(folder / "cases.pt", weights_only=False):
        torch.manual_seed(0)  # a LoRA adapter is drawn
        worker.reset()
        rows = len(case.fields["input_ids"])
        share = slice(rank * rows // ranks, (rank + 1) * rows // ranks)
        batch = {
            name: torch.nested.as_nested_tensor(values[share], layout=torch.jagged)
            for name, values in case.fields.items()
        }
        data = TensorDict(batch, batch_size=rows // ranks)
        facts = {
            "temperature": 1.0,
            "calculate_entropy": False,
            "global_batch_size": rows // case.mini_batches,
            "distillation_use_topk": False,
        }
        tu.assign_non_tensor(data, **facts, **{"use_dynamic_bsz": False, **case.splitting})
        if actor is None:
            tu.assign_non_tensor(data, calculate_entropy=True, compute_loss=False)
            output = worker.infer_batch(data)
            names = ("log_probs", "entropy")
            outputs.append({name: list(output[name].unbind()) for name in names})
            continue
        tu.assign_non_tensor(
            data,
            num_mini_batch=case.mini_batches,
            epochs=case.epochs,
            seed=1,
            dataloader_kwargs={"shuffle": False},
        )
        worker.train_mini_batch(data)
        state = worker.engine.module.state_dict()
        after.append(
            {
                name: (
                    (value.full_tensor() if isinstance(value, DTensor) else value).detach().clone()
                )
                for name, value in state.items()
            }
        )
    if actor is None:
        torch.save(outputs, folder / f"outputs-{rank}.pt")
    elif rank == 0:
        torch.save(after, folder / "weights.pt")
