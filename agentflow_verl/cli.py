"""``agentflow``: the command line.

    agentflow doctor [CONFIG OVERRIDES…]   what loaded, which versions, and whether engines and tools answer
"""

from __future__ import annotations

import argparse
import sys


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="agentflow", description="Train and inspect a tool-using agent with verl.")
    commands = parser.add_subparsers(dest="command", required=True)
    doctor = commands.add_parser("doctor", help="check this installation, and a run's configuration")
    doctor.add_argument("overrides", nargs="*", help="Hydra overrides of the run, such as platform=cpu")
    doctor.add_argument("--config-name", default="agentflow")
    given = parser.parse_args(arguments)
    from agentflow_verl import doctor as checks  # imports verl: only when asked

    return checks.report(given.config_name, given.overrides)


if __name__ == "__main__":
    sys.exit(main())
