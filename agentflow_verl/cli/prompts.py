"""``agentflow prompts``: write out the modules' prompt templates that are shipped."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from importlib.resources import files
from pathlib import Path

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.evaluation.output import prepare_folder
from agentflow_verl.flow.modules import MODULES


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="where to write them")


def run(options: Namespace) -> int:
    """Write one file per module. Raises ConfigError where one of them is there already."""
    paths = {module: options.folder / f"{module}.md" for module in MODULES}
    there = [path for path in paths.values() if path.exists()]
    if there:
        raise ConfigError(f"{there[0]} is there already; name another folder")
    prepare_folder("DIR", options.folder)
    shipped = files("agentflow_verl.flow.prompts")
    for module, path in paths.items():
        text = shipped.joinpath(f"{module}.md").read_text(encoding="utf-8")
        path.write_text(text, encoding="utf-8")
        print(path)
    return 0
