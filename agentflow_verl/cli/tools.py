"""``agentflow tools``: start tool servers by hand, and list what running ones offer.

Servers started here are supervised like a run's embedded ones: they are restarted when they die and
end with this process, however it ends. Their addresses are printed as lines that can be put under
``agentflow.tools``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agentflow_verl.config import schema
from agentflow_verl.config.base import validate
from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.tools.embedded.supervisor import Supervisor
from agentflow_verl.tools.toolbox import ToolBox
from agentflow_verl.tools.types import ToolSpec

BUILT_IN = ("base_generator", "google_search", "python_coder", "web_search", "wikipedia_search")
TOKEN = "AGENTFLOW_TOOL_TOKEN"  # if set, our servers require it
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def add_arguments(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    up = actions.add_parser(
        "up", help="start them, print their addresses, end them with this command"
    )
    up.add_argument("names", nargs="*", help="which (default: all that can start)")
    up.add_argument(
        "--config",
        metavar="FILE",
        help="YAML of the shape of agentflow.tools (default: our own, no options)",
    )
    up.add_argument(
        "--logs", metavar="FOLDER", help="one file per server (default: standard error)"
    )
    listed = actions.add_parser("list", help="tools, arguments and notes of running servers")
    listed.add_argument(
        "urls", nargs="+", metavar="URL", help="MCP endpoint, such as http://127.0.0.1:8101/mcp"
    )


def run(options: Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.action == "list":
        lines = list_tools(options.urls)
    else:
        configs = server_configs(options.names, options.config)
        lines = serve_until_signal(configs, bool(options.names), options.logs)
    for line in lines:
        print(line, flush=True)
    return 0


def server_configs(names: Sequence[str], file: str | None) -> list[ToolConfig]:
    """The servers to start: those of a YAML file of the shape of ``agentflow.tools``, else our own
    with their defaults.

    ``names`` picks some of them. Each gets this process's whole environment, as if started in the
    same shell. Raises ConfigError for a file that is not of that shape, or a name that is not
    there.
    """
    nodes: dict[str, Any] = dict.fromkeys(BUILT_IN, {})
    if file is not None:
        nodes = _read_nodes(file)
    unknown = [name for name in names if name not in nodes]
    if unknown:
        raise ConfigError(
            f"no tool server is called {unknown[0]!r}; the names are {', '.join(nodes)}"
        )
    tools = schema.load({"tools": nodes}).tools
    # Bash exports functions as variables with names such as BASH_FUNC_x%%; they are left out.
    environment = tuple(filter(_ENV_NAME.fullmatch, os.environ))
    configs = []
    for name in names or nodes:
        config = tools[name]
        if config.embedded:
            config = config.model_copy(update={"env": environment})
        configs.append(config)
    return configs


def serve_until_signal(
    configs: Iterable[ToolConfig], all_or_none: bool, log_dir: str | None
) -> Iterator[str]:
    """Start the servers at once, yield a line for each, and keep them until SIGTERM, SIGINT or
    SIGHUP.

    ``all_or_none``: one that does not start ends the others; else its line is a comment with the
    reason. Raises ConfigError where one, or each of them, did not start.
    """
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, lambda *_: stop.set())
    supervisors = [Supervisor([config], log_dir) for config in configs]
    try:
        with ThreadPoolExecutor(len(supervisors)) as pool:
            outcomes = list(pool.map(_start, supervisors))
        failures = [outcome for outcome in outcomes if isinstance(outcome, ConfigError)]
        if failures and (all_or_none or len(failures) == len(outcomes)):
            raise failures[0]
        for outcome in outcomes:
            yield _outcome_line(outcome)
        stop.wait()
    finally:
        with ThreadPoolExecutor(len(supervisors)) as pool:
            list(pool.map(Supervisor.stop, supervisors))


def _outcome_line(outcome: ToolConfig | ConfigError) -> str:
    if isinstance(outcome, ConfigError):
        # The first line says what failed; the last one is the last line of the server's log.
        lines = str(outcome).splitlines()
        return f"# {lines[0]} {lines[-1].strip()}"
    token = ""
    if _token_env():
        token = f", token_env: {TOKEN}"
    return f"{outcome.name}: {{urls: [{', '.join(outcome.urls)}]{token}}}"


def list_tools(urls: Sequence[str]) -> Iterator[str]:
    """Yield a few lines per tool that the servers at these addresses offer; the token is sent to
    them if it is set. Raises ConfigError.
    """
    configs = []
    for number, url in enumerate(urls, start=1):
        name = _server_name(url, number)
        node = {"name": name, "urls": (url,), "token_env": _token_env()}
        configs.append(validate(ToolConfig, node, url))
    for config, specs in asyncio.run(_fetch_specs(configs)):
        for spec in specs:
            yield from _spec_lines(spec, config.urls[0])


def _spec_lines(spec: ToolSpec, url: str) -> Iterator[str]:
    required = spec.parameters.get("required", ())
    arguments = []
    for name in spec.parameters.get("properties", {}):
        mark = "" if name in required else "?"
        arguments.append(f"{name}{mark}")
    yield f"{spec.name}({', '.join(arguments)})  {url}"
    for line in [*spec.description.splitlines(), *spec.notes.splitlines()]:
        yield f"    {line}"
    if spec.cacheable:
        yield "    results may be cached"
    else:
        yield "    results are not cached"


def _token_env() -> str | None:
    """The variable that holds the token; None where it is not set."""
    if not os.environ.get(TOKEN):
        return None
    return TOKEN


async def _fetch_specs(
    configs: Sequence[ToolConfig],
) -> list[tuple[ToolConfig, tuple[ToolSpec, ...]]]:
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


def _read_nodes(file: str) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        nodes = OmegaConf.to_container(OmegaConf.load(Path(file)), resolve=True)
    except (OSError, UnicodeError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{file} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(nodes, dict) or not nodes:
        raise ConfigError(
            f"{file}: expected the names of tool servers with their options, as under"
            " agentflow.tools"
        )
    return {str(name): node or {} for name, node in nodes.items()}


def _server_name(url: str, number: int) -> str:
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', urlsplit(url).netloc)[:100]}-{number}"
