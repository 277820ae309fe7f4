"""Whether a model folder is whole: configuration, weights, tokenizer and chat template.

Training and evaluation ask here before anything is started. Files are looked into, not loaded: of
weights only headers and sizes, so a folder of any size takes well under a second.
"""

from __future__ import annotations

import importlib.util
import json
import re
import struct
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from agentflow_verl.core.errors import ConfigError

LFS_POINTER = b"version https://git-lfs"
FETCH_LFS = "it is a pointer of git-lfs: run git lfs pull in the folder"
MERGE = (
    "a checkpoint of verl's is merged first: python -m verl.model_merger merge --backend fsdp"
    " --local_dir CHECKPOINT/actor --target_dir FOLDER"
)
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
TOKENIZERS = (
    "tokenizer.json", "tokenizer.model", "tekken.json", "spiece.model", "vocab.json", "vocab.txt",
    "*.tiktoken", "*.model",
)  # fmt: skip
TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja")
LENGTHS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
PART = re.compile(r"(.+)-\d{5}-of-(\d{5})(\.safetensors|\.bin)")

# Where the installed engines list the architectures that they generate text with.
VLLM_REGISTRY = "model_executor/models/registry.py"
VLLM_GENERATES = ("_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS")
SGLANG_MODELS = "srt/models"
SGLANG_GENERATES = "srt/configs/model_config.py"


@dataclass(frozen=True)
class ModelFolder:
    """What the checks found out about a folder. ``context_length`` is None where its configuration
    does not say, or stretches positions.
    """

    path: Path
    architecture: str | None
    context_length: int | None


def check_model_folder(
    folder: Path, *, tokenizer: Path | None = None, needs_template: bool = True
) -> ModelFolder:
    """Look into a folder.

    Args:
        tokenizer: folder of the tokenizer, where it is another one.
        needs_template: whether the tokenizer has to bring a chat template.

    Raises:
        ConfigError: the first file that is missing or broken, and what to do.
    """
    config = _read_json(folder / "config.json", f"so it is not a model folder; {MERGE}")
    _check_weights(folder)
    _check_tokenizer(tokenizer or folder, needs_template)
    names = config.get("architectures")
    architecture = None
    if isinstance(names, list) and names and isinstance(names[0], str):
        architecture = names[0]
    return ModelFolder(folder, architecture, context_length(config))


def check_architecture(model: ModelFolder, engine: str) -> None:
    """Raises ConfigError: the installed engine generates no text with this kind of model. An engine
    that is not installed is not asked.
    """
    known = architectures_of(engine)
    name = model.architecture
    if not known or name is None or name in known or _known_to_transformers(name):
        return
    raise ConfigError(
        f"{model.path}/config.json: the architecture {name} is not one that the installed {engine}"
        " generates text with; choose another model, or a newer release of the engine"
    )


def context_length(config: dict[str, Any]) -> int | None:
    """The longest text in tokens, where positions are not stretched (RoPE scaling)."""
    inner = config.get("text_config")
    if isinstance(inner, dict):  # a multimodal model keeps its language model's figures there
        config = {**config, **inner}
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if isinstance(scaling, dict) and scaling.get("factor"):
        return None
    for name in LENGTHS:
        length = config.get(name)
        if isinstance(length, int):
            return length
    return None


@cache
def architectures_of(engine: str) -> frozenset[str]:
    """Architectures that an installed engine (``vllm`` or ``sglang``) lists, read from its source:
    importing it takes many seconds. Empty where it is not installed, or lists them elsewhere: the
    engine itself refuses what it cannot load.
    """
    root = _package_folder(engine)
    lists = VLLM_REGISTRY if engine == "vllm" else SGLANG_GENERATES
    if root is None or not (root / lists).is_file():
        return frozenset()
    if engine == "vllm":
        return _vllm_architectures((root / lists).read_text(encoding="utf-8"))
    return _sglang_architectures(root)


def _sglang_architectures(root: Path) -> frozenset[str]:
    """What its model files enter, without the models that its ``is_generation_model`` names: those
    that embed or classify.
    """
    found: set[str] = set()
    for path in (root / SGLANG_MODELS).glob("*.py"):
        text = path.read_text(encoding="utf-8")
        for entry in re.findall(r"^EntryClass\s*=\s*(\[[^\]]*\]|\w+)", text, re.MULTILINE):
            found.update(re.findall(r"\w+", entry))
    source = (root / SGLANG_GENERATES).read_text(encoding="utf-8")
    _, _, after = source.partition("\ndef is_generation_model(")
    others = re.findall(r'"(\w+)" in model_architectures', after.partition("\ndef ")[0])
    return frozenset(found - set(others))


def _vllm_architectures(source: str) -> frozenset[str]:
    """The keys of the registry's dictionaries of models that generate."""
    found: set[str] = set()
    for name in VLLM_GENERATES:
        table = re.search(rf"^{name}\b[^=]*= {{\n(.*?)^}}", source, re.MULTILINE | re.DOTALL)
        if table:
            found.update(re.findall(r'^    "(\w+)":', table.group(1), re.MULTILINE))
    return frozenset(found)


def _known_to_transformers(architecture: str) -> bool:
    """Whether transformers has it as a causal model; engines run these by its code."""
    root = _package_folder("transformers")
    if root is None:
        return True
    source = (root / "models/auto/modeling_auto.py").read_text(encoding="utf-8")
    table = re.search(r"^MODEL_FOR_CAUSAL_LM_MAPPING_NAMES\b.*?^\)", source, re.M | re.S)
    return table is None or f'"{architecture}"' in table.group()


@cache
def _package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(list(spec.submodule_search_locations)[0])


def _check_weights(folder: Path) -> None:
    index = _first_file(folder, INDEXES)
    if (folder / "model.safetensors").is_file():
        names = {"model.safetensors"}
    elif index is not None:
        names = _check_index(index)
    else:
        names = _weight_files(folder)
    for name in sorted(names):
        path = folder / name
        if not path.is_file():
            raise ConfigError(f"{path} is missing: {index} names it; fetch the model again")
        if path.suffix == ".safetensors":
            read_safetensors_header(path)
        else:
            _check_pickled_weights(path)


def _first_file(folder: Path, names: Iterable[str]) -> Path | None:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    return None


def _weight_files(folder: Path) -> set[str]:
    """Weights of a folder without an index; parts that are numbered are all there."""
    names = {path.name for path in folder.glob("*.safetensors")}
    names = names or {path.name for path in folder.glob("*.bin")}
    # Not the model's: a trainer's arguments, and the weights of an adapter.
    names -= {"training_args.bin", "adapter_model.safetensors", "adapter_model.bin"}
    if not names and (folder / "adapter_config.json").is_file():
        raise ConfigError(
            f"{folder} holds a LoRA adapter only: merge it into its base model first"
            " (peft: merge_and_unload)"
        )
    if not names:
        raise ConfigError(f"{folder}: no *.safetensors or *.bin there; {MERGE}")
    for name in sorted(names):
        for sought in _parts_of(name):
            if sought not in names:
                raise ConfigError(f"{folder / sought} is missing; fetch the model again")
    return names


def _parts_of(name: str) -> list[str]:
    """All files of the set that ``name`` is a part of; [] for one that is not numbered."""
    part = PART.fullmatch(name)
    if part is None:
        return []
    start, total, ending = part.groups()
    return [f"{start}-{number:05d}-of-{total}{ending}" for number in range(1, int(total) + 1)]


def _check_index(index: Path) -> set[str]:
    """The files of an index; those of safetensors hold every tensor that it says."""
    weight_map = _read_json(index, "").get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ConfigError(f"{index} has no weight_map; fetch the model again")
    for name in sorted(set(weight_map.values())):
        path = index.parent / name
        if not path.is_file() or path.suffix != ".safetensors":
            continue
        held = read_safetensors_header(path)
        for tensor, where in weight_map.items():
            if where == name and tensor not in held:
                raise ConfigError(f"{path} has no tensor {tensor}, which {index.name} lists")
    return set(weight_map.values())


def read_safetensors_header(path: Path) -> dict[str, Any]:
    """The tensors of a file (https://huggingface.co/docs/safetensors): eight bytes of length, a
    header of JSON, the data.

    Raises:
        ConfigError: a git-lfs pointer, another kind of file, or one that is cut off.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
        _refuse_pointer(path, start)
        if size < 8:
            raise ConfigError(f"{path} is cut off: it has {size} bytes; fetch the model again")
        (length,) = struct.unpack("<Q", start[:8])
        # Checked before it is read: in another kind of file these bytes are any number.
        if length > min(size - 8, MAX_HEADER_BYTES):
            raise ConfigError(
                f"{path} is cut off or no safetensors file: {size} bytes do not hold its header;"
                " fetch the model again"
            )
        file.seek(8)
        text = file.read(length)
    try:
        header: dict[str, Any] = json.loads(text)
        header.pop("__metadata__", None)
        ends = [value["data_offsets"][1] for value in header.values()]
    except (ValueError, AttributeError, KeyError, TypeError, IndexError):
        raise ConfigError(f"{path} has no safetensors header; fetch the model again") from None
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise ConfigError(
            f"{path} is cut off: it has {size:,} bytes of {expected:,}; fetch the model again"
        )
    return header


def _check_pickled_weights(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
    _refuse_pointer(path, start)
    if not start:
        raise ConfigError(f"{path} is empty; fetch the model again")
    # PyTorch writes a ZIP archive, whose directory is at its end.
    if start.startswith(b"PK") and not zipfile.is_zipfile(path):
        raise ConfigError(f"{path} is cut off; fetch the model again")


def _check_tokenizer(folder: Path, needs_template: bool) -> None:
    found: list[Path] = []
    for pattern in TOKENIZERS:
        found += folder.glob(pattern)
    if not found:
        raise ConfigError(
            f"{folder} has no tokenizer (tokenizer.json, or its own kind of file); copy the"
            " tokenizer's files from the base model"
        )
    for path in found:
        if path.suffix == ".json":
            _read_json(path, "")
        else:
            with path.open("rb") as file:
                _refuse_pointer(path, file.read(len(LFS_POINTER)))
    if needs_template and not _has_template(folder):
        raise ConfigError(
            f"{folder}: the tokenizer has no chat template (chat_template.jinja, or chat_template"
            " in tokenizer_config.json): use the instruct model, or copy its template"
        )


def _has_template(folder: Path) -> bool:
    for pattern in TEMPLATES:
        if any(folder.glob(pattern)):
            return True
    path = folder / "tokenizer_config.json"
    return path.is_file() and bool(_read_json(path, "").get("chat_template"))


def _read_json(path: Path, without: str) -> dict[str, Any]:
    """A JSON object. Raises ConfigError; ``without`` says what its absence means."""
    if not path.is_file():
        raise ConfigError(f"{path.parent} has no {path.name}, {without}".rstrip(", "))
    content = path.read_bytes()
    _refuse_pointer(path, content)
    try:
        found = json.loads(content)
    except ValueError:
        raise ConfigError(f"{path} is not JSON; fetch the model again") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path} is not a JSON object; fetch the model again")
    return found


def _refuse_pointer(path: Path, start: bytes) -> None:
    if start.startswith(LFS_POINTER):
        raise ConfigError(f"{path}: {FETCH_LFS}")
