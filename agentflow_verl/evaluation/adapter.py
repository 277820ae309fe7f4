"""A LoRA adapter that lies beside a model's weights, where verl's merger writes it: it is served
with them. The weights alone are those that training started from.
"""

from __future__ import annotations

import json
from pathlib import Path

from agentflow_verl.core.errors import ConfigError

FOLDER = "lora_adapter"
NAME = "adapter"
"""What the server calls it."""


def adapter_of(model: str) -> Path | None:
    """The adapter in a model's folder."""
    folder = Path(model) / FOLDER
    return folder if (folder / "adapter_config.json").is_file() else None


def served_name(model: str) -> str | None:
    """The name under which the server of ``model`` answers with the adapter; None without one."""
    return NAME if adapter_of(model) else None


def adapter_args(model: str, engine: str) -> tuple[str, ...]:
    """What the server of ``model`` is told of its adapter; nothing where it has none. Raises
    ConfigError where the engine would serve the weights without it, or the adapter has no scale.
    """
    adapter = adapter_of(model)
    if adapter is None:
        return ()
    if engine != "vllm":
        raise ConfigError(
            f"{adapter} is served by vLLM only: install it, or merge the adapter into the weights"
            " with peft's merge_and_unload()"
        )
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    if not config.get("lora_alpha"):
        raise ConfigError(
            f"{adapter / 'adapter_config.json'}: lora_alpha is {config.get('lora_alpha')}, with"
            " which the adapter does nothing; write the value of training"
        )
    served = ("--enable-lora", "--max-lora-rank", str(_rank(int(config["r"]))))
    return (*served, "--lora-modules", f"{NAME}={adapter}")


def _rank(rank: int) -> int:
    """The least rank that vLLM takes for an adapter of ``rank``."""
    return next((size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= rank), rank)
