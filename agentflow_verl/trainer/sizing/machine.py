"""The machines that a run is sized for: described on a command line, or these here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    here: it counts its own GPUs and CPUs.
    """
    disk = _disk_for(Path(config.trainer.default_local_dir))
    ray_init = config.ray_kwargs.get("ray_init", {})
    if joins_cluster(ray_init):
        return Machine(config.trainer.nnodes, disk_bytes=disk)
    cpus = ray_init.get("num_cpus") or os.cpu_count()
    if config.trainer.device != "cuda":
        return Machine(cpus=cpus, disk_bytes=disk)
    import torch

    gpus = torch.cuda.device_count()
    memory = [torch.cuda.get_device_properties(number).total_memory for number in range(gpus)]
    return Machine(1, ray_init.get("num_gpus") or gpus, min(memory, default=None), cpus, disk)


def joins_cluster(ray_init: Mapping[str, Any]) -> bool:
    """Whether Ray joins a cluster that runs, as ``ray.init`` decides: by the address, and without
    one by the file that ``ray start`` leaves on its machine.
    """
    address = ray_init.get("address") or os.environ.get("RAY_ADDRESS")
    if address:
        return bool(address != "local")
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    return Path(ray_init.get("_temp_dir") or f"{folder}/ray", "ray_current_cluster").exists()


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
