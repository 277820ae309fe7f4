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
ALL_LINEAR = "all-linear"
FULL_ATTENTION = ("llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe")
"""Model types that attend to every token in every layer, unless a window is set."""


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
    plain: bool = True
    """Keys and values of every token in every layer, and weights in the type of the server."""

    @property
    def outside_layers(self) -> int:
        """Parameters of the embedding, and of the head where it is not the same matrix."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def per_layer(self) -> int:
        return (self.parameters - self.outside_layers) // self.layers

    def adapter(self, rank: int, targets: object) -> int:
        """Parameters of a LoRA adapter: ``rank`` x (inputs + outputs) of each matrix that it is
        beside (Hu et al. 2021, arXiv 2106.09685, section 4.1). All of them, at most, for a regular
        expression and for PEFT's own choice (None).
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
        chosen: set[str] = set(matrices)
        if names_matrices(targets) and targets != ALL_LINEAR:
            chosen = {targets} if isinstance(targets, str) else set(targets)  # type: ignore[call-overload]
        return rank * self.layers * sum(matrices.get(name, 0) for name in chosen)


def names_matrices(targets: object) -> bool:
    """Whether LoRA's ``target_modules`` are known by name."""
    if isinstance(targets, str):
        return targets == ALL_LINEAR or targets.isidentifier()
    return targets is not None


def size_of(path: str, fetch: bool = True) -> ModelSize:
    """Of a model folder, or of a hub's model, whose config.json is fetched if it is not here.

    Raises:
        ConfigError: neither is to be had here, or its parameters cannot be counted.
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
    folder = Path(path).expanduser()
    files = sorted(folder.glob("model*.safetensors")) if folder.is_dir() else []
    try:
        text = found.get_text_config()
        tied = bool(getattr(text, "tie_word_embeddings", False))
        count = count_in_headers(files, tied) if files else count_in_config(found)
    except ConfigError:
        raise
    except Exception as error:  # of transformers' model, or of a header without shapes
        raise ConfigError(
            f"{path}: its parameters cannot be counted ({type(error).__name__}:"
            f" {next(iter(str(error).splitlines()), '')})"
        ) from None
    return from_config(text.to_dict(), count, tied)


def from_config(config: Mapping[str, Any], parameters: int, tied: bool) -> ModelSize:
    """Raises ConfigError: a configuration without the usual names, or whose layers differ."""
    try:
        hidden, heads = config["hidden_size"], config["num_attention_heads"]
        head_size = config.get("head_dim") or hidden // heads
        wide = config["intermediate_size"]
        if active := config.get("num_experts_per_tok"):
            wide = active * (config.get("moe_intermediate_size") or wide)
        size = ModelSize(
            parameters=parameters,
            layers=config["num_hidden_layers"],
            hidden=hidden,
            queries=heads * head_size,
            keys=(config.get("num_key_value_heads") or heads) * head_size,
            intermediate=wide,
            vocabulary=config["vocab_size"],
            tied=tied,
            plain=_is_plain(config),
        )
    except KeyError as missing:
        raise ConfigError(f"config.json has no {missing}, so sizes cannot be estimated") from None
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ConfigError(f"config.json: sizes cannot be estimated ({error})") from None
    for name in ("layers", "hidden", "queries", "keys", "intermediate", "vocabulary"):
        value = getattr(size, name)
        if not isinstance(value, int) or value < 1:  # a list: one value for each layer
            raise ConfigError(f"config.json: sizes cannot be estimated ({name} is {value})")
    return size


def _is_plain(config: Mapping[str, Any]) -> bool:
    if config.get("quantization_config") or config.get("kv_lora_rank"):
        return False
    if kinds := config.get("layer_types"):
        return set(kinds) == {"full_attention"}
    return config.get("model_type") in FULL_ATTENTION and not config.get("sliding_window")


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
