"""The machines that a run is sized for: described on a command line, or these here."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig


@dataclass(frozen=True)
class Machine:
    """``nodes`` of one kind. What is None is not known, and nothing is compared with it."""

    nodes: int = 1
    gpus: int | None = None
    """Of one node."""
    gpu_bytes: int | None = None
    cpus: int | None = None
    """Of one node, as Ray counts them."""
    disk_bytes: int | None = None
    """Free where checkpoints go, with what earlier checkpoints of the same run take."""


def machine_here(config: DictConfig) -> Machine:
    """This machine, as far as a run on it alone may use it. Of a cluster, only the disk is known
    here.
    """
    disk = _disk_for(Path(config.trainer.default_local_dir))
    ray_init = config.ray_kwargs.get("ray_init", {})
    if (ray_init.get("address") or os.environ.get("RAY_ADDRESS", "local")) != "local":
        return Machine(config.trainer.nnodes, disk_bytes=disk)
    cpus = ray_init.get("num_cpus") or os.cpu_count()
    if config.trainer.device != "cuda":
        return Machine(cpus=cpus, disk_bytes=disk)
    import torch

    gpus = torch.cuda.device_count()
    memory = [torch.cuda.get_device_properties(number).total_memory for number in range(gpus)]
    return Machine(1, gpus, min(memory, default=None), cpus, disk)


def _disk_for(folder: Path) -> int | None:
    if "://" in str(folder):
        return None
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    earlier = sum(
        file.stat().st_size for file in folder.glob("global_step_*/**/*") if file.is_file()
    )
    return shutil.disk_usage(there).free + earlier
