"""A tiny whole model folder, written by hand: its files are looked into, never loaded."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "num_attention_heads": 4,
    "max_position_embeddings": 32_768,
}
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def write_safetensors(path: Path, *names: str) -> None:
    """A file of safetensors with these tensors, four bytes each."""
    header = {
        name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * at, 4 * at + 4]}
        for at, name in enumerate(names)
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4 * len(names)))


def write_model(folder: Path, **config: Any) -> Path:
    """A whole model; ``config`` replaces keys of its config.json."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    write_safetensors(folder / "model.safetensors", "embed", "head")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    return folder


def write_sharded_model(folder: Path) -> Path:
    """The same in two parts with their index."""
    write_model(folder)
    (folder / "model.safetensors").unlink()
    write_safetensors(folder / "model-00001-of-00002.safetensors", "embed")
    write_safetensors(folder / "model-00002-of-00002.safetensors", "head")
    weight_map = {
        "embed": "model-00001-of-00002.safetensors",
        "head": "model-00002-of-00002.safetensors",
    }
    index = {"metadata": {"total_size": 8}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
