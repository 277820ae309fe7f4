"""A model folder that could not be loaded and served is refused by its first bad file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.engines import model_folder
from agentflow_verl.engines.model_folder import (
    ModelFolder,
    architectures_of,
    check_architecture,
    check_model_folder,
    context_length,
)
from tests.engines.model_folders import write_model, write_safetensors, write_sharded_model

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123456789\n"
PART = "model-00002-of-00002.safetensors"


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigError) as raised:
        check_model_folder(folder)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return write_sharded_model(tmp_path / "model")


def test_a_whole_model_is_accepted(model):
    found = check_model_folder(model)
    assert (found.architecture, found.context_length) == ("Qwen2ForCausalLM", 32_768)


def test_a_whole_model_in_parts_is_accepted(sharded):
    check_model_folder(sharded)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "has no config.json, so it is not a model folder"),
        ("", "config.json is not JSON"),
        ("{", "config.json is not JSON"),
        ("[]", "config.json is not a JSON object"),
        (POINTER, "run git lfs pull"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_named(model, content, named):
    (model / "config.json").unlink()
    if content is not None:
        (model / "config.json").write_text(content)
    assert named in refusal(model)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (POINTER.encode(), "model.safetensors: it is a pointer of git-lfs: run git lfs pull"),
        (b"", "model.safetensors is cut off: it has 0 bytes"),
        (b"\x00" * 7, "model.safetensors is cut off"),
        (b"\xff" * 100, "cut off or no safetensors file"),
        (b"\x02" + b"\x00" * 7 + b"[]", "has no safetensors header"),
        (b"\x02" + b"\x00" * 7 + b"{]", "has no safetensors header"),
        (b"<!DOCTYPE html><html>not found</html>", "cut off or no safetensors file"),
    ],
)
def test_weights_that_are_not_weights_are_named(model, content, named):
    (model / "model.safetensors").write_bytes(content)
    assert named in refusal(model)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_weights_are_whole_or_refused(tmp_path, data):
    """Cut anywhere, or with anything behind their end."""
    model = write_model(tmp_path / "model")
    whole = (model / "model.safetensors").read_bytes()
    length = data.draw(st.integers(0, len(whole) + 20))
    (model / "model.safetensors").write_bytes((whole + bytes(20))[:length])
    if length == len(whole):
        check_model_folder(model)
    else:
        assert "model.safetensors" in refusal(model)


def test_no_weights_at_all_are_named_with_the_way_to_merge_a_checkpoint(model):
    (model / "model.safetensors").unlink()
    assert "verl.model_merger merge" in refusal(model)


def test_an_adapter_alone_is_no_model(model):
    (model / "model.safetensors").rename(model / "adapter_model.safetensors")
    (model / "adapter_config.json").write_text("{}")
    assert "holds a LoRA adapter only" in refusal(model)


def test_a_missing_part_is_named_with_the_index_that_names_it(sharded):
    (sharded / PART).unlink()
    assert f"{PART} is missing" in refusal(sharded)


def test_a_missing_part_is_named_without_an_index(sharded):
    (sharded / "model.safetensors.index.json").unlink()
    check_model_folder(sharded)
    (sharded / PART).unlink()
    assert f"{PART} is missing" in refusal(sharded)


def test_a_part_of_another_model_is_named(sharded):
    write_safetensors(sharded / PART, "other")
    assert f"{PART} has no tensor head" in refusal(sharded)


@pytest.mark.parametrize("index", ["{}", '{"weight_map": {}}', '{"weight_map": []}', "{"])
def test_an_index_that_says_nothing_is_named(sharded, index):
    (sharded / "model.safetensors.index.json").write_text(index)
    assert "model.safetensors.index.json" in refusal(sharded)


def test_weights_of_pytorch_are_accepted_whole_and_refused_cut(model):
    (model / "model.safetensors").unlink()
    path = model / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", "x" * 500)
    check_model_folder(model)
    path.write_bytes(path.read_bytes()[:-40])
    assert "pytorch_model.bin is cut off" in refusal(model)
    path.write_text(POINTER)
    assert "git lfs pull" in refusal(model)
    path.write_bytes(b"")
    assert "pytorch_model.bin is empty" in refusal(model)


def test_a_missing_tokenizer_is_named(model):
    (model / "tokenizer.json").unlink()
    assert "has no tokenizer" in refusal(model)


@pytest.mark.parametrize("content", ["", "{", POINTER])
def test_a_broken_tokenizer_is_named(model, content):
    (model / "tokenizer.json").write_text(content)
    assert "tokenizer.json" in refusal(model)


def test_a_tokenizer_may_stand_in_a_folder_of_its_own(model, tmp_path):
    apart = tmp_path / "tokenizer"
    apart.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).rename(apart / name)
    refusal(model)
    check_model_folder(model, tokenizer=apart)


def test_a_missing_chat_template_is_named(model):
    (model / "tokenizer_config.json").write_text("{}")
    assert "has no chat template" in refusal(model)
    check_model_folder(model, needs_template=False)
    (model / "chat_template.jinja").write_text("{{ messages }}")
    check_model_folder(model)


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"max_position_embeddings": 2048}, 2048),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 4096}}, 4096),
        ({"max_position_embeddings": 2048, "rope_scaling": {"type": "yarn", "factor": 4.0}}, None),
        ({"max_position_embeddings": 2048, "rope_scaling": None}, 2048),
        ({}, None),
    ],
)
def test_the_longest_text_of_a_model(config, length):
    assert context_length(config) == length


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_what_an_installed_engine_generates_text_with_is_read_from_its_source(engine):
    known = architectures_of(engine)
    if not known:
        pytest.skip(f"{engine} is not installed")
    assert {"Qwen2ForCausalLM", "LlamaForCausalLM"} <= known
    assert "BertModel" not in known


def test_vllms_own_list_agrees(monkeypatch):
    registry = pytest.importorskip("vllm.model_executor.models.registry")
    assert architectures_of("vllm") == {
        *registry._TEXT_GENERATION_MODELS,
        *registry._MULTIMODAL_MODELS,
    }


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_an_engine_that_keeps_its_lists_elsewhere_lists_nothing(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(model_folder, "_package_folder", lambda _: tmp_path)
    assert architectures_of.__wrapped__(engine) == frozenset()


def test_an_architecture_that_the_engine_does_not_know_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(model_folder, "architectures_of", lambda _: {"Qwen2ForCausalLM"})
    check_architecture(ModelFolder(tmp_path, "Qwen2ForCausalLM", None), "vllm")
    check_architecture(ModelFolder(tmp_path, "LlamaForCausalLM", None), "vllm")  # by transformers
    with pytest.raises(ConfigError, match="the architecture BertModel is not one that"):
        check_architecture(ModelFolder(tmp_path, "BertModel", None), "vllm")
    monkeypatch.setattr(model_folder, "architectures_of", lambda _: frozenset())
    check_architecture(ModelFolder(tmp_path, "BertModel", None), "vllm")  # not installed


def test_a_configuration_without_architectures_is_left_to_the_engine(model):
    (model / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    assert check_model_folder(model).architecture is None
