"""Without flash-attn a GPU's run trains with PyTorch's attention, and says so; with it, as verl."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trainer.launch import LaunchCallback
from agentflow_verl.trainer.preflight.attention import attention_notes, check_attention
from agentflow_verl.trainer.preflight.static import load_settings
from tests.trainer.preflight.runs import make_config


def gpus(*overrides: str) -> DictConfig:
    """A run on GPUs, composed as main_ppo composes it."""
    with initialize_config_module("verl.trainer.config", version_base=None):
        model = "actor_rollout_ref.model.path=some/model"
        return compose("agentflow", [model, *overrides])


def install(folder: Path, distribution: str, source: str = "") -> None:
    """A package flash_attn, of a distribution of this name."""
    information = folder / f"{distribution.replace('-', '_')}-2.8.3.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Name: {distribution}\nVersion: 2.8.3\n")
    (folder / "flash_attn.py").write_text(source)


@pytest.fixture(params=["flash-attn", "flash-attn-4", None])
def flash(request, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bool:
    """Whether flash-attn 2 is there: flash-attn-4 (SGLang's) has a module of the same name."""
    sys.modules.pop("flash_attn", None)
    if request.param:
        install(tmp_path, request.param)
        monkeypatch.syspath_prepend(tmp_path)
    return request.param == "flash-attn"


def test_the_configuration_takes_what_is_there(flash: bool) -> None:
    config = gpus()
    model = config.actor_rollout_ref.model
    kind = model.override_config.attn_implementation
    wanted = ("flash_attention_2", True) if flash else ("sdpa", False)
    assert (kind, model.use_remove_padding) == wanted
    check_attention(config, load_settings(config))
    assert len(attention_notes(config)) == (0 if flash else 1)


def test_what_is_chosen_stands(flash: bool) -> None:
    chosen = "actor_rollout_ref.model.override_config.attn_implementation=eager"
    config = gpus(chosen, "actor_rollout_ref.model.use_remove_padding=false")
    assert config.actor_rollout_ref.model.override_config.attn_implementation == "eager"
    assert not attention_notes(config)


def test_other_accelerators_keep_verls(flash: bool) -> None:
    model = gpus("trainer.device=npu").actor_rollout_ref.model
    kind = model.override_config.attn_implementation
    assert (kind, model.use_remove_padding) == ("flash_attention_2", True)


def test_it_is_decided_once_where_the_run_starts(flash: bool) -> None:
    """Hydra's callback gets the configuration before it is copied for the job."""
    config = gpus()
    LaunchCallback().on_run_start(config)
    model = config.actor_rollout_ref.model
    chosen = OmegaConf.to_container(model.override_config, resolve=False)["attn_implementation"]
    packs = OmegaConf.to_container(model, resolve=False)["use_remove_padding"]
    assert (chosen, packs) == (("flash_attention_2", True) if flash else ("sdpa", False))


@pytest.mark.parametrize(
    ("raised", "named"),
    [
        ("ImportError('undefined symbol: _ZN3c10')", "undefined symbol: _ZN3c10"),  # another torch
        ("ImportError", "ImportError"),  # says nothing
    ],
)
def test_a_flash_attn_that_does_not_load_is_named(monkeypatch, tmp_path, raised, named) -> None:
    install(tmp_path, "flash-attn", f"raise {raised}")
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("flash_attn", None)
    config = gpus()
    with pytest.raises(ConfigError, match=f"does not load .{named}"):
        check_attention(config, load_settings(config))


def test_a_model_without_torchs_attention_is_refused(flash: bool, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt_oss"}))
    chosen = "actor_rollout_ref.model.override_config.attn_implementation=sdpa"
    config = gpus(f"actor_rollout_ref.model.path={tmp_path}", chosen)
    with pytest.raises(ConfigError, match="gpt_oss has no attention of PyTorch's") as refused:
        check_attention(config, load_settings(config))
    assert ("flash-attn is not installed" in str(refused.value)) is not flash


def test_a_cpus_run_is_told_nothing() -> None:
    assert not attention_notes(make_config())
