"""Which runs can share prefixes, and why another cannot.

``agentflow.shared_prefix``: ``auto`` shares where this file knows no reason against it and says a
reason once; ``true`` makes a reason an error before the run; ``false`` is verl's own way.
"""

from __future__ import annotations

import importlib
import inspect
import logging
from typing import Any

from omegaconf import DictConfig, OmegaConf

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trainer.preflight.model import local_model
from agentflow_verl.trainer.shared_prefix.attention import UNKNOWN_ARGUMENTS

logger = logging.getLogger(__name__)
KEY = "agentflow.shared_prefix"
ENGINES = ("fsdp", "fsdp2")
DEVICES = ("cuda", "cpu")
LAYERS = ("full_attention", "sliding_attention")
DROPOUTS = ("attention_dropout", "resid_pdrop", "embd_pdrop", "hidden_dropout", "dropout")


def shares_prefixes(config: DictConfig) -> bool:
    """Whether this run computes rows as trees; what speaks against it is logged."""
    if config.agentflow.shared_prefix is False:
        return False
    reason = why_not(config)
    if reason is not None:
        logger.warning("rows are computed one by one, prefixes are not shared: %s", reason)
    return reason is None


def check_shared_prefix(config: DictConfig) -> None:
    """Raises ConfigError: sharing was asked for, and this run cannot. A model that is not here yet
    is looked at when the run has fetched it.
    """
    if config.agentflow.shared_prefix is not True:
        return
    reason = why_no_engine(config)
    if reason is None and local_model(config) is not None:
        reason = why_no_model(config)
    if reason is not None:
        raise ConfigError(f"{KEY}=true: {reason}; set {KEY}=auto to compute such rows one by one")


def why_not(config: DictConfig) -> str | None:
    """The reason against it in words, None where there is none."""
    return why_no_engine(config) or why_no_model(config)


def why_no_engine(config: DictConfig) -> str | None:
    """What of verl's engine options speaks against it."""
    actor_rollout_ref = config.actor_rollout_ref
    if config.trainer.device not in DEVICES:
        return f"trainer.device={config.trainer.device} was not tried"
    for role in ("actor", "ref"):
        key = f"actor_rollout_ref.{role}"
        strategy = actor_rollout_ref[role].strategy
        if strategy not in ENGINES:
            return f"{key}.strategy={strategy} has an engine of its own"
        engine = actor_rollout_ref[role].get("fsdp_config") or {}
        for name in (
            "ulysses_sequence_parallel_size",
            "fsdp_config.ulysses_sequence_parallel_size",
        ):
            size = OmegaConf.select(config, f"{key}.{name}")
            if size and size > 1:
                return f"{key}.{name}={size} splits a row over devices"
        if engine.get("pad_to_length") or actor_rollout_ref[role].get("pad_to_length"):
            return f"{key}.pad_to_length=true fixes the length of a packed batch"
    if actor_rollout_ref.model.get("use_fused_kernels"):
        return "actor_rollout_ref.model.use_fused_kernels=true replaces the model's head"
    if OmegaConf.select(config, "distillation.enabled"):
        return "distillation.enabled=true needs the logits of whole rows"
    return None


def why_no_model(config: DictConfig) -> str | None:
    """What of the model speaks against it. Reads its configuration, and the source of its class."""
    from transformers import AutoConfig

    model = config.actor_rollout_ref.model
    try:
        found = AutoConfig.from_pretrained(
            model.get("hf_config_path") or model.path,
            trust_remote_code=model.get("trust_remote_code", False),
        )
    except (OSError, ValueError) as wrong:
        return f"the model's configuration cannot be read here ({str(wrong).splitlines()[0]})"
    override = OmegaConf.to_container(
        model.get("override_config") or OmegaConf.create(), resolve=True
    )
    assert isinstance(override, dict)
    for name, value in override.get("model_config", override).items():
        if name != "attn_implementation":
            setattr(found, str(name), value)
    return why_no_architecture(found)


def why_no_architecture(found: Any) -> str | None:
    """``found``: a configuration of transformers'."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    kind = found.model_type
    if getattr(found, "auto_map", None):
        return f"{kind} brings its own code"
    if getattr(found, "vision_config", None) is not None:
        return f"{kind} has more than text"
    if type(found) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return f"{kind} is no causal language model of transformers'"
    other = sorted(set(getattr(found, "layer_types", None) or ()) - set(LAYERS))
    if other:
        return f"{kind} has layers of {', '.join(other)}"
    for name in DROPOUTS:
        if getattr(found, name, 0):
            return f"{kind} has {name}={getattr(found, name)}, and draws differ from row to row"
    windowed = "sliding_attention" in (getattr(found, "layer_types", None) or ())
    if getattr(found, "layer_types", None) is None:
        windowed = bool(getattr(found, "sliding_window", None))
    model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(found)]
    if not model_class._supports_attention_backend or model_class._is_stateful:
        return f"{kind} does not call transformers' attention interface"
    source = inspect.getsource(importlib.import_module(model_class.__module__))
    if windowed and "sliding_window=" not in source:
        return f"{kind} has a sliding window in its mask alone"
    for name in UNKNOWN_ARGUMENTS:
        if f"{name}=" in source:
            return f"the attention of {kind} takes {name}"
    return None
