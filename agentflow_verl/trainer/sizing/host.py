"""CPUs that Ray sets aside, memory of the host, and disk that checkpoints take."""

from __future__ import annotations

from agentflow_verl.trainer.sizing.gpu_memory import Training
from agentflow_verl.trainer.sizing.model import ModelSize

CPUS_PER_TRAINING_GPU = 3  # single_controller/ray/base.py, ResourcePoolManager.max_colocate_count
CPUS_PER_SERVING_GPU = 2  # workers/rollout/replica.py, init_standalone
CONTROLLER = 1  # transfer_queue/controller.py


def cpus(training_gpus: int, serving_gpus: int, storage_units: int) -> int:
    """CPUs without which Ray waits for ever: it counts them, whatever the cores do. Actors without
    a demand of their own take none.
    """
    return (
        CPUS_PER_TRAINING_GPU * training_gpus
        + CPUS_PER_SERVING_GPU * serving_gpus
        + CONTROLLER
        + storage_units
    )


def host_bytes(model: ModelSize, training: Training, gpus_per_node: int, reference: bool) -> float:
    """Memory of one machine for what its GPUs hand over: weights and moments that are offloaded,
    and the reference model, which verl keeps on the host in the actor's type
    (fsdp/transformer_impl.py, ``_build_fsdp_module``).
    """
    each = training.weight_bytes / training.ranks * gpus_per_node
    trained = model.parameters if training.trained is None else training.trained
    found = 0.0
    if training.params_offloaded or training.stays_on_host:
        found += each * model.parameters
    if training.optimizer_offloaded or training.stays_on_host:
        found += each * 2 * trained
    if reference:
        found += each * model.parameters
    return found


def checkpoint_bytes(model: ModelSize, training: Training, contents: list[str]) -> float:
    """One checkpoint of the actor (utils/checkpoint/fsdp_checkpoint_manager.py): the shards of all
    ranks together, and with ``hf_model`` a copy as the full state holds it.
    """
    adapter = training.trained or 0
    trained = model.parameters if training.trained is None else adapter
    whole = training.weight_bytes * (model.parameters + adapter)
    found = 0.0
    if "model" in contents:
        found += whole
    if "optimizer" in contents:
        found += training.weight_bytes * 2 * trained
    if "hf_model" in contents:
        found += whole
    return found


def checkpoints_kept(most: int | None, every: int, steps: int | None) -> int | None:
    """How many stand at the end: 0 where none is written, None where it depends on steps that are
    not known.
    """
    if every <= 0:
        return 0
    written = None if steps is None else -(-steps // every)
    if most is None or most <= 0:
        return written
    return most if written is None else min(most, written)
