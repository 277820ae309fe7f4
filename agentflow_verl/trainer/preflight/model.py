"""The policy's model: a folder that is here is looked into; a hub's name or an address is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.engines.model_folder import check_architecture, check_model_folder

KEY = "actor_rollout_ref.model.path"
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


def check_model(config: DictConfig) -> None:
    """Raises ConfigError: no folder, or one whose model could not be loaded and served."""
    model = config.actor_rollout_ref.model
    folder = local_model(config)
    if folder is None:
        return
    tokenizer = Path(model.get("tokenizer_path") or folder).expanduser()
    try:
        found = check_model_folder(
            folder,
            tokenizer=tokenizer if tokenizer.is_dir() else None,
            needs_template=not model.get("custom_chat_template"),
        )
        check_architecture(found, config.actor_rollout_ref.rollout.name)
        if config.trainer.device == "cpu":
            _check_no_experts(read_model_config(config))
    except ConfigError as wrong:
        raise ConfigError(f"{KEY}: {wrong}") from None


def _check_no_experts(model: dict[str, Any]) -> None:
    """vLLM's CPU backend keeps a repacked copy of the experts' weights, which an update does not
    reach (model_executor/layers/fused_moe/experts/cpu_moe.py:305): it would sample from those that
    it started with.
    """
    text = model.get("text_config")
    model = {**model, **text} if isinstance(text, dict) else model
    experts = [model[name] for name in EXPERTS if isinstance(model.get(name), int)]
    if max(experts, default=0) > 1:
        architecture = next(iter(model.get("architectures") or ()), "the model")
        raise ConfigError(
            f"{architecture} is a mixture of {max(experts)} experts: on a CPU vLLM goes on sampling"
            " from the experts' first weights, and SGLang was not tried; choose a dense model, or"
            " train on GPUs"
        )


def local_model(config: DictConfig) -> Path | None:
    """The model's folder, or None for one that verl fetches.

    Raises:
        ConfigError: a path that leads nowhere.
    """
    path = config.actor_rollout_ref.model.path
    if path is None:
        raise ConfigError(f"{KEY} is not set: name a model folder or a hub id")
    if "://" in path:
        return None
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    looks_local = path.startswith(("/", "./", "../", "~")) or path.count("/") != 1
    if looks_local:
        raise ConfigError(f"{KEY}: there is no folder {path}")
    return None


def read_model_config(config: DictConfig) -> dict[str, Any]:
    """The model's config.json; {} for a model that is not here."""
    folder = local_model(config)
    if folder is None:
        return {}
    try:
        found = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}  # check_model says so
    return found if isinstance(found, dict) else {}
