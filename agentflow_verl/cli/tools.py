"""``agentflow tools``: start tool servers by hand, and list what running ones offer.

Servers that are started here are supervised as a run's embedded ones are: restarted when they die,
ended together, gone with this process however it ends. Their addresses come out as lines that can
stand under ``agentflow.tools``.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from agentflow_verl.config import schema
from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.tools.embedded.supervisor import Supervisor
from agentflow_verl.tools.toolbox import ToolBox

BUILT_IN = ("base_generator", "google_search", "python_coder", "web_search", "wikipedia_search")
TOKEN = "AGENTFLOW_TOOL_TOKEN"  # what our servers demand where it is set
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def configured(names: Sequence[str], file: str | None) -> list[ToolConfig]:
    """The servers to start: those of a YAML file of the shape of ``agentflow.tools``, else our own
    with their defaults.

    ``names`` picks some of them. Each gets this process's whole environment, as if started in the
    same shell. Raises ConfigError for a file that is not of that shape, or a name that is not
    there.
    """
    nodes = dict.fromkeys(BUILT_IN, {}) if file is None else _read(file)
    unknown = [name for name in names if name not in nodes]
    if unknown:
        raise ConfigError(
            f"no tool server is called {unknown[0]!r}; the names are {', '.join(nodes)}"
        )
    tools = schema.load({"tools": nodes}).tools
    configs = [tools[name] for name in names or nodes]
    environment = tuple(filter(_ENV_NAME.fullmatch, os.environ))
    return [
        config.model_copy(update={"env": environment}) if config.embedded else config
        for config in configs
    ]


def up(configs: Iterable[ToolConfig], all_or_none: bool, log_dir: str | None) -> Iterator[str]:
    """Start the servers at once, yield a line for each, and keep them until SIGTERM, SIGINT or
    SIGHUP.

    ``all_or_none``: one that does not start ends the others; else it is a comment with the reason.
    Raises ConfigError where one, or each of them, did not start.
    """
    told = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, lambda *_: told.set())
    supervisors = [Supervisor([config], log_dir) for config in configs]
    try:
        with ThreadPoolExecutor(len(supervisors)) as pool:
            outcomes = list(pool.map(_start, supervisors))
        failures = [outcome for outcome in outcomes if isinstance(outcome, ConfigError)]
        if failures and (all_or_none or len(failures) == len(outcomes)):
            raise failures[0]
        for outcome in outcomes:
            if isinstance(outcome, ConfigError):
                yield f"# {str(outcome).splitlines()[0]} {str(outcome).splitlines()[-1].strip()}"
            else:
                token = f", token_env: {TOKEN}" if _token() else ""
                yield f"{outcome.name}: {{urls: [{', '.join(outcome.urls)}]{token}}}"
        told.wait()
    finally:
        with ThreadPoolExecutor(len(supervisors)) as pool:
            list(pool.map(Supervisor.stop, supervisors))


def listing(urls: Sequence[str]) -> Iterator[str]:
    """What the servers at these addresses offer, a few lines a tool; they are sent the token, if
    there is one.

    Raises ConfigError.
    """
    configs = [
        ToolConfig(name=_name(url, number), urls=(url,), token_env=_token())
        for number, url in enumerate(urls, start=1)
    ]
    for config, specs in asyncio.run(_specs(configs)):
        for spec in specs:
            required = spec.parameters.get("required", ())
            arguments = (
                f"{name}{'' if name in required else '?'}"
                for name in spec.parameters.get("properties", {})
            )
            yield f"{spec.name}({', '.join(arguments)})  {config.urls[0]}"
            yield from (
                f"    {line}"
                for text in (spec.description, spec.notes)
                for line in text.splitlines()
            )
            yield f"    {'results may be cached' if spec.cacheable else 'results are not cached'}"


def _token() -> str | None:
    return TOKEN if os.environ.get(TOKEN) else None


async def _specs(configs: Sequence[ToolConfig]) -> list[tuple[ToolConfig, tuple]]:
    found = []
    for config in configs:
        async with await ToolBox.open([config]) as box:
            found.append((config, box.specs))
    return found


def _start(supervisor: Supervisor) -> ToolConfig | ConfigError:
    try:
        return supervisor.start()[0]
    except ConfigError as error:
        return error


def _read(file: str) -> dict:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        nodes = OmegaConf.to_container(OmegaConf.load(Path(file)), resolve=True)
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{file} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(nodes, dict) or not nodes:
        raise ConfigError(
            f"{file}: expected the names of tool servers with their options, as under"
            " agentflow.tools"
        )
    return {str(name): node or {} for name, node in nodes.items()}


def _name(url: str, number: int) -> str:
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', urlsplit(url).netloc)[:100]}-{number}"
