"""``agentflow doctor``: proves what loaded, stops at the first thing that would make a run fail.

verl swallows a plugin's import error, so "no error" proves nothing: every line here comes from
asking.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from agentflow_verl.config import schema
from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.errors import AgentflowError
from agentflow_verl.trainer.preflight import installation
from agentflow_verl.trainer.preflight.installation import Line


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
    state: dict[str, Any] = {}
    checks: list[Callable[[], Iterator[Line]]] = [
        installation.versions,
        # What costs least comes first: importing verl takes most of the time, its trainers the
        # rest, and a mistyped key, a wrong file or row is named before either.
        lambda: installation.option_names(overrides),
        installation.plugin,
        lambda: installation.compose(config_name, overrides, config_dir, state),
        lambda: installation.devices(state["config"]),
        lambda: run_checks(state["config"], state),
        lambda: installation.registries(state["config"]),
        lambda: installation.engine(state["config"]),
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


def run_checks(config: DictConfig, state: dict[str, Any]) -> Iterator[Line]:
    """What a run checks before Ray, but for what is asked below; without a model named yet, only
    the agentflow node and the rollout engine.
    """
    from agentflow_verl.trainer.preflight import checks, static

    state["settings"] = static.load_settings(config)
    if config.actor_rollout_ref.model.path == DEFAULT_MODEL:
        yield "agentflow node", "valid (no model named: data and folders not checked)"
        engine = next(check for check in checks.CHECKS if check.name == checks.ENGINE)
        checks.ask(engine, config, state["settings"])
        yield engine.name, f"{config.actor_rollout_ref.rollout.name} is installed"
        return
    yield "agentflow node", "valid"
    for check in checks.CHECKS:
        if check.name != checks.SERVERS:
            checks.ask(check, config, state["settings"])
            yield check.name, "ok"
    yield "model", config.actor_rollout_ref.model.path
    yield "data", f"{config.data.train_files}, {config.data.val_files}"
    yield "output", config.trainer.default_local_dir
    for note in checks.notes(config, state["settings"]):
        yield "note", note


DEFAULT_MODEL = "~/models/deepseek-llm-7b-chat"  # verl's placeholder


def tools(settings: schema.AgentflowConfig) -> Iterator[Line]:
    """Starts the embedded servers as a run would, lists every tool, and ends them."""
    from agentflow_verl.tools.embedded.supervisor import Supervisor
    from agentflow_verl.tools.toolbox import ToolBox

    async def listed(configs: tuple[ToolConfig, ...]) -> list[Line]:
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
