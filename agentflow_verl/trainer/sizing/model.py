"""What a checkpoint's size is made of: parameters by kind and the widths of its layers.

From files alone: config.json, and the headers of safetensors. Where only the configuration is here,
transformers builds the model without memory (torch's ``meta`` device) and its parameters are
counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.engines.model_folder import read_safetensors_header

HEAD = "lm_head.weight"


@dataclass(frozen=True)
class ModelSize:
    """Counts of parameters, and widths in values per token."""

    parameters: int
    """Tied weights count once."""
    layers: int
    hidden: int
    queries: int
    """Heads times their size."""
    keys: int
    """As ``queries``, of the key heads alone; the values are as many."""
    intermediate: int
    """Of the feed-forward part that one token passes, all its experts together."""
    vocabulary: int
    tied: bool

    @property
    def outside_layers(self) -> int:
        """Parameters of the embedding, and of the head where it is not the same matrix."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def per_layer(self) -> int:
        return (self.parameters - self.outside_layers) // self.layers

    def adapter(self, rank: int, targets: object) -> int:
        """Parameters of a LoRA adapter: ``rank`` x (inputs + outputs) of each matrix that it is
        beside (Hu et al. 2021, arXiv 2106.09685, section 4.1).
        """
        hidden, wide = self.hidden, self.intermediate
        matrices = {
            "q_proj": hidden + self.queries,
            "k_proj": hidden + self.keys,
            "v_proj": hidden + self.keys,
            "o_proj": self.queries + hidden,
            "gate_proj": hidden + wide,
            "up_proj": hidden + wide,
            "down_proj": wide + hidden,
        }
        chosen = matrices if isinstance(targets, str) else set(targets)  # type: ignore[call-overload]
        return rank * self.layers * sum(matrices.get(name, 0) for name in chosen)


def size_of(path: str, fetch: bool = True) -> ModelSize:
    """Of a model folder, or of a hub's model, whose config.json is fetched if it is not here.

    Raises:
        ConfigError: neither is to be had here.
    """
    from transformers import AutoConfig

    try:
        # Left open, the question whether a model's own code may run would be asked at the terminal.
        found = AutoConfig.from_pretrained(
            path, local_files_only=not fetch, trust_remote_code=False
        )
    except Exception as error:  # transformers raises a dozen kinds for a configuration it dislikes
        raise ConfigError(
            f"{path}: its config.json cannot be read ({str(error).splitlines()[0]}); name a folder"
            " that holds it, or a hub id where the hub can be reached"
        ) from None
    tied = bool(getattr(found.get_text_config(), "tie_word_embeddings", False))
    folder = Path(path).expanduser()
    files = sorted(folder.glob("model*.safetensors")) if folder.is_dir() else []
    count = count_in_headers(files, tied) if files else count_in_config(found)
    return from_config(found.get_text_config().to_dict(), count, tied)


def from_config(config: Mapping[str, Any], parameters: int, tied: bool) -> ModelSize:
    """Raises ConfigError: a configuration without the usual names."""
    try:
        hidden, heads = config["hidden_size"], config["num_attention_heads"]
        head_size = config.get("head_dim") or hidden // heads
        wide = config["intermediate_size"]
        if active := config.get("num_experts_per_tok"):
            wide = active * (config.get("moe_intermediate_size") or wide)
        return ModelSize(
            parameters=parameters,
            layers=config["num_hidden_layers"],
            hidden=hidden,
            queries=heads * head_size,
            keys=(config.get("num_key_value_heads") or heads) * head_size,
            intermediate=wide,
            vocabulary=config["vocab_size"],
            tied=tied,
        )
    except KeyError as missing:
        raise ConfigError(f"config.json has no {missing}, so sizes cannot be estimated") from None


def count_in_headers(files: list[Path], tied: bool) -> int:
    """Parameters that files of safetensors hold; a head that is tied to the embedding not again."""
    shapes: dict[str, list[int]] = {}
    for file in files:
        for name, tensor in read_safetensors_header(file).items():
            shapes[name] = tensor["shape"]
    if tied and "model.embed_tokens.weight" in shapes:
        shapes.pop(HEAD, None)
    return sum(prod(shape) for shape in shapes.values())


def count_in_config(config: Any) -> int:
    """Parameters of the model that a configuration of transformers' describes."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())
