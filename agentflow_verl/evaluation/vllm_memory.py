"""The size of the key-value cache of a vLLM server on a CPU.

vLLM's default, 92% of the memory, is meant for a GPU that serves one model and nothing else. On a
CPU such a server fails to start beside other programs, so the cache is sized by what the evaluation
can use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

OPTION = "--kv-cache-memory-bytes"
CHOSEN_BY_USER = (OPTION, "--gpu-memory-utilization")
ENVIRONMENT = "VLLM_CPU_KVCACHE_SPACE"
CONTEXT_PER_TRAJECTORY = 8192  # tokens; prompts with a long memory rarely need more
SHARE_OF_AVAILABLE = 0.25  # unless a single sequence of full length needs more
WITHOUT_A_CONFIG = 1 << 30


def cpu_memory_args(
    model: str, args: Sequence[str], environment: Mapping[str, str], sequences: int
) -> tuple[str, ...]:
    """vLLM's option for the key-value cache; nothing where the user has chosen already."""
    chosen = any(word.partition("=")[0] in CHOSEN_BY_USER for word in args)
    if chosen or environment.get(ENVIRONMENT):
        return ()
    available: int = psutil.virtual_memory().available
    return OPTION, str(kv_cache_bytes(model_config(model), args, sequences, available))


def kv_cache_bytes(
    config: Mapping[str, Any], args: Sequence[str], sequences: int, available: int
) -> int:
    """Room for ``sequences`` trajectories, at most a share of what is available, at least one
    sequence of the model's full length (vLLM does not start with less).
    """
    per_token = bytes_per_token(config, args)
    longest = _longest_sequence(config, args)
    if not per_token or not longest:
        return min(WITHOUT_A_CONFIG, int(available * SHARE_OF_AVAILABLE))
    wanted = per_token * sequences * min(longest, CONTEXT_PER_TRAJECTORY)
    # vLLM allocates whole blocks of tokens, so a sequence takes a little more than its tokens.
    one_sequence = per_token * (longest + 256)
    return max(one_sequence, min(wanted, int(available * SHARE_OF_AVAILABLE)))


def _longest_sequence(config: Mapping[str, Any], args: Sequence[str]) -> int:
    """Tokens of the longest sequence that the server accepts; 0 where nothing says."""
    given = _value(args, "--max-model-len") or ""
    if given.isdecimal():  # other forms, such as "auto" or "32k", are left to the configuration
        return int(given)
    return config.get("max_position_embeddings") or 0


def bytes_per_token(config: Mapping[str, Any], args: Sequence[str]) -> int:
    """Keys and values of one token over all layers; 0 where the configuration does not say."""
    heads = config.get("num_attention_heads") or 0
    layers, hidden = config.get("num_hidden_layers") or 0, config.get("hidden_size") or 0
    if not heads:
        return 0
    head_size = config.get("head_dim") or hidden // heads
    dtype = _value(args, "--dtype") or str(config.get("dtype") or config.get("torch_dtype"))
    bytes_per_value = 2
    if dtype in ("float32", "float"):
        bytes_per_value = 4
    # With grouped-query attention several heads share one key and value head.
    key_value_heads = config.get("num_key_value_heads") or heads
    return int(2 * layers * key_value_heads * head_size * bytes_per_value)


def model_config(model: str) -> Mapping[str, Any]:
    """A model folder's config.json, the language model's part of it; empty where there is none."""
    try:
        config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(config, dict):
        return {}
    # Models that also see images keep the language model's values one level deeper.
    text = config.get("text_config")
    if isinstance(text, dict):
        return {**config, **text}
    return config


def _value(args: Sequence[str], option: str) -> str | None:
    """``--option value`` or ``--option=value``; the last one counts."""
    found = None
    for position, word in enumerate(args):
        name, equals, value = word.partition("=")
        if name != option:
            continue
        if equals:
            found = value
        elif position + 1 < len(args):
            found = args[position + 1]
    return found
