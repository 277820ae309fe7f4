"""Checks of the ``agentflow`` node, the algorithm, the folders and the devices, for the list in
checks.py. Each raises ConfigError: what, where, what to do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from agentflow_verl.config import schema
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trainer.preflight.run_lock import check_unlocked
from agentflow_verl.trainer.preflight.verl_options import ESTIMATOR, check_options
from agentflow_verl.trainer.rollout.worker_settings import resolve_node
from agentflow_verl.trainer.sizing.machine import joins_cluster

MODES = ("agentflow_sync", "agentflow_colocate_async", "agentflow_separate_async")


def load_settings(config: DictConfig) -> schema.AgentflowConfig:
    """The validated ``agentflow`` node."""
    with named_errors():
        return schema.load(_resolved(config, "agentflow"))


@contextmanager
def named_errors() -> Iterator[None]:
    """A value that is missing, or an interpolation that leads nowhere, as a ConfigError."""
    try:
        yield
    except OmegaConfBaseException as wrong:
        raise ConfigError(f"{wrong.full_key}: {str(wrong).splitlines()[0]}") from None


def check_keys(settings: schema.AgentflowConfig) -> None:
    for name, endpoint in settings.endpoints.items():
        if endpoint.api_key_env and endpoint.api_key_env not in os.environ:
            raise ConfigError(
                f"agentflow.endpoints.{name}.api_key_env: {endpoint.api_key_env} is not set in the"
                " environment"
            )


def check_trained_modules(settings: schema.AgentflowConfig) -> None:
    for module, engine in settings.engines.model_dump().items():
        if module in settings.train and engine != "policy":
            raise ConfigError(
                f"agentflow.engines.{module}={engine}: a module that is trained is answered by the"
                f" policy; set agentflow.engines.{module}=policy, or take it out of agentflow.train"
            )


def check_algorithm(config: DictConfig) -> None:
    mode = config.trainer.v1.trainer_mode
    if not config.trainer.use_v1:
        raise ConfigError("trainer.use_v1=false: agentflow needs verl's V1 trainer")
    if mode not in MODES:
        raise ConfigError(
            f"trainer.v1.trainer_mode={mode}: with agentflow use one of {', '.join(MODES)}"
        )
    check_options(config)
    if config.algorithm.adv_estimator != ESTIMATOR:
        for module, weight in config.agentflow.train_weights.items():
            if weight != 1.0:
                raise ConfigError(
                    f"agentflow.train_weights.{module}={weight} is flow_grpo's; leave it 1 with"
                    f" algorithm.adv_estimator={config.algorithm.adv_estimator}"
                )
        return
    if config.distillation.enabled:
        raise ConfigError(
            "distillation.enabled=true replaces the loss of flow_grpo; leave it false, or choose"
            " another algorithm.adv_estimator"
        )
    if config.actor_rollout_ref.rollout.n < 2:
        raise ConfigError(
            f"actor_rollout_ref.rollout.n={config.actor_rollout_ref.rollout.n}: a group needs at"
            " least 2"
        )


def check_adapter(config: DictConfig) -> None:
    """verl sends its adapter only to servers that share its GPUs (engine_workers.py:764), and to
    SGLang under a name that SGLang 0.5.12 does not know (``serialized_named_tensors``,
    sglang_rollout.py:354; srt/managers/io_struct.py has ``serialized_tensors``).
    """
    apart = config.trainer.v1.trainer_mode == "agentflow_separate_async"
    engine = config.actor_rollout_ref.rollout.name
    if not apart and engine != "sglang":
        return
    from agentflow_verl.trainer.rollout.lora_sharing import serves_adapter  # heavy: verl's rollout

    if not serves_adapter(config.actor_rollout_ref):
        return
    if engine == "sglang":
        raise ConfigError(
            "actor_rollout_ref.model.lora_rank with actor_rollout_ref.rollout.name=sglang: SGLang"
            " cannot read the adapter that verl sends; set actor_rollout_ref.model.lora.merge=true,"
            " or take vllm"
        )
    if apart:
        raise ConfigError(
            "actor_rollout_ref.model.lora_rank with"
            " trainer.v1.trainer_mode=agentflow_separate_async: verl would never send the adapter"
            " to the rollout servers; set actor_rollout_ref.model.lora.merge=true, or choose"
            " another mode"
        )


def check_folders(config: DictConfig, settings: schema.AgentflowConfig) -> None:
    for key, name in (
        ("trainer.default_local_dir", config.trainer.default_local_dir),
        ("agentflow.trajectory_dir", settings.trajectory_dir),
    ):
        if name is None or "://" in name:
            continue
        try:
            Path(name).mkdir(parents=True, exist_ok=True)
            probe = Path(name) / f".agentflow-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as wrong:
            raise ConfigError(f"{key}: cannot write to {name} ({wrong.strerror})") from None
        check_unlocked(Path(name), key)


def check_devices(config: DictConfig, settings: schema.AgentflowConfig) -> None:
    import torch

    started = config.ray_kwargs.get("ray_init", {})
    if joins_cluster(started):
        return  # what a cluster has, Ray says
    if config.trainer.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "trainer.device=cuda, but no GPU is visible here: add platform=cpu, or join a Ray"
            " cluster"
        )
    trained, served = gpus(config, settings)
    here = started.get("num_gpus") or torch.cuda.device_count()
    if trained + served > here:
        raise ConfigError(
            f"trainer.nnodes x trainer.n_gpus_per_node asks for {trained} GPUs and rollout servers"
            f" of their own for {served}, the frozen base's among them; {here} are here: lower"
            " trainer.n_gpus_per_node, or join a Ray cluster"
        )


def gpus(config: DictConfig, settings: schema.AgentflowConfig) -> tuple[int, int]:
    """GPUs that the trainer takes, and that servers beside it take: the frozen base's, and the
    asynchronous mode's rollout.
    """
    from agentflow_verl.trainer.rollout.frozen_base import base_replicas  # heavy: verl's rollout

    rollout, trainer = config.actor_rollout_ref.rollout, config.trainer
    alone = (
        rollout.nnodes * rollout.n_gpus_per_node
        if trainer.v1.trainer_mode == "agentflow_separate_async"
        else 0
    )
    size = (
        rollout.tensor_model_parallel_size
        * rollout.data_parallel_size
        * rollout.pipeline_model_parallel_size
    )
    return trainer.nnodes * trainer.n_gpus_per_node, alone + base_replicas(config, settings) * size


def _resolved(config: DictConfig, key: str) -> dict[str, Any]:
    node = OmegaConf.select(config, key)
    if not isinstance(node, DictConfig):
        raise ConfigError(
            f"{key}: there must be a node of settings, not {node!r}; start from --config-name"
            " agentflow"
        )
    return resolve_node(node)
