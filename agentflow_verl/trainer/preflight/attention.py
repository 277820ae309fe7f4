"""The attention that the actor is trained with, and whether it is there.

verl asks for flash-attn's unless told otherwise. Without that package the configuration of GPUs
takes PyTorch's (config/platform/accelerator.yaml), which needs nothing.
"""

from __future__ import annotations

import importlib

from omegaconf import DictConfig

from agentflow_verl.config.schema import AgentflowConfig
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trainer.installed import has_flash_attn
from agentflow_verl.trainer.preflight.model import local_model, read_model_config

OPTION = "actor_rollout_ref.model.override_config.attn_implementation"
FLASH, TORCH = "flash_attention_2", "sdpa"
BUILD = (
    "flash-attn 2.8.3 has no wheel for torch 2.11 with CUDA 13, and takes about an hour to build"
    " (pip install wheel ninja, then pip install flash-attn==2.8.3 --no-build-isolation, with the"
    " CUDA 13 toolkit)"
)


def check_attention(config: DictConfig, settings: AgentflowConfig) -> None:
    """Raises ConfigError: the attention is not installed, or the model has none of that kind."""
    wanted = attention(config)
    if config.trainer.device != "cuda":
        return
    if wanted == FLASH:
        _check_flash()
    if wanted == TORCH and not _model_takes_torchs(config):
        kind = read_model_config(config).get("model_type")
        said = f"{kind} has no attention of PyTorch's (sdpa)"
        if has_flash_attn():
            raise ConfigError(f"{said}: set {OPTION}={FLASH}, or eager")
        raise ConfigError(
            f"{said}, and flash-attn is not installed: choose another model, or {OPTION}=eager;"
            f" {BUILD}"
        )


def attention_notes(config: DictConfig) -> list[str]:
    """What a run without flash-attn should know, once."""
    if config.trainer.device != "cuda" or attention(config) != TORCH or has_flash_attn():
        return []
    return [
        "attention: PyTorch's (sdpa), with rows padded where they share no prefix, since flash-attn"
        f" is not installed; {BUILD}"
    ]


def attention(config: DictConfig) -> str:
    override = config.actor_rollout_ref.model.get("override_config") or {}
    return str(override.get("attn_implementation", FLASH))


def _check_flash() -> None:
    if not has_flash_attn():
        raise ConfigError(
            f"{OPTION}={FLASH}: flash-attn is not installed; leave the option out to train with"
            f" PyTorch's attention; {BUILD}"
        )
    try:
        importlib.import_module("flash_attn")
    except ImportError as wrong:  # built for another torch: an undefined symbol
        why = (str(wrong).splitlines() or [type(wrong).__name__])[0]
        raise ConfigError(
            f"flash-attn is installed and does not load ({why}): build it"
            " for this torch, or pip uninstall -y flash-attn to train with PyTorch's attention"
        ) from None


def _model_takes_torchs(config: DictConfig) -> bool:
    """True also where the model is not here, or not known to transformers."""
    folder = local_model(config)
    if folder is None:
        return True
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    try:
        found = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        model_class = MODEL_FOR_CAUSAL_LM_MAPPING[type(found)]
    except Exception:  # check_model says what is wrong with a folder
        return True
    return bool(model_class._supports_sdpa)
