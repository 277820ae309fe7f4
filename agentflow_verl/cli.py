"""``agentflow``: the command line.

    agentflow doctor [CONFIG OVERRIDES…]   what loaded, which versions, and whether engines and tools answer
    agentflow tools up [NAMES…]            start tool servers, report their addresses, end them together
    agentflow tools list URL…              what the tool servers at these addresses offer
"""

from __future__ import annotations

import argparse
import logging
import sys


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="agentflow", description="Train and inspect a tool-using agent with verl.")
    commands = parser.add_subparsers(dest="command", required=True)
    doctor = commands.add_parser("doctor", help="check this installation, and a run's configuration")
    doctor.add_argument("overrides", nargs="*", help="Hydra overrides of the run, such as platform=cpu")
    doctor.add_argument("--config-name", default="agentflow")
    doctor.set_defaults(run=_doctor)
    _add_tools(commands.add_parser("tools", help="start tool servers, or list what they offer"))
    given = parser.parse_args(arguments)
    return given.run(given)


def _doctor(given: argparse.Namespace) -> int:
    from agentflow_verl import doctor as checks  # imports verl: only when asked

    return checks.report(given.config_name, given.overrides)


def _add_tools(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    up = actions.add_parser("up", help="start them, print their addresses, end them with this command")
    up.add_argument("names", nargs="*", help="which (default: all that can start)")
    up.add_argument("--config", metavar="FILE", help="YAML of the shape of agentflow.tools (default: our own, no options)")
    up.add_argument("--logs", metavar="FOLDER", help="a file a server (default: standard error)")
    up.set_defaults(run=_tools)
    listed = actions.add_parser("list", help="tools, arguments and notes of running servers")
    listed.add_argument("urls", nargs="+", metavar="URL", help="MCP endpoint, such as http://127.0.0.1:8101/mcp")
    listed.set_defaults(run=_tools)


def _tools(given: argparse.Namespace) -> int:
    from agentflow_verl import tool_commands
    from agentflow_verl.errors import ConfigError

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if given.action == "list":
            lines = tool_commands.listing(given.urls)
        else:
            configs = tool_commands.configured(given.names, given.config)
            lines = tool_commands.up(configs, bool(given.names), given.logs)
        for line in lines:
            print(line, flush=True)
    except ConfigError as wrong:
        print(f"FAIL  {wrong}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
