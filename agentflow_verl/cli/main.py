"""``agentflow``: the command line. Parses, and hands over to the command's own file.

agentflow doctor [OVERRIDES…]          check this installation and a run's configuration
agentflow plan [OVERRIDES…] …          GPU memory, CPUs and disk that a run takes
agentflow eval --benchmarks NAMES …    accuracy on benchmarks; --compare A B for two runs
agentflow solve "QUESTION" …           answer one question, each step shown as it happens
agentflow analyse WHAT RUN_DIR…        the paper's analyses over saved trajectories
agentflow judge RUN_DIR …              have an LLM judge the answers that a run saved
agentflow replay FILE[:ID]             run recorded trajectories again, without a model
agentflow view RUN_DIR…                a run's trajectories and curves as one HTML page
agentflow prompts DIR                  write out the modules' prompt templates
agentflow tools up [NAMES…]            start tool servers and print their addresses
agentflow tools list URL…              what the tool servers at these addresses offer
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from agentflow_verl import __version__
from agentflow_verl.core.errors import ConfigError, InfraError
from agentflow_verl.core.private_files import PRIVATE, parse_umask

# Exit statuses. 2 is also argparse's, 130 the shell's for Ctrl-C.
WRONG_USE = 2
FAULT = 3
INTERRUPTED = 130

EXTRAS = {
    "hydra": "train",
    "ray": "train",
    "tensordict": "train",
    "torch": "train",
    "transformers": "train",
    "verl": "train",
    "vllm": "vllm",
    "sglang": "sglang",
}


@dataclass(frozen=True)
class Command:
    """A command's module in this folder, with ``add_arguments(parser)`` and ``run(options)``."""

    module: str
    summary: str

    def load(self, parser: argparse.ArgumentParser) -> None:
        module = importlib.import_module(f"agentflow_verl.cli.{self.module}")
        module.add_arguments(parser)
        parser.set_defaults(run=module.run)


COMMANDS = {
    "doctor": Command("doctor", "check this installation, and a run's configuration"),
    "plan": Command("plan", "GPU memory, CPUs and disk that a run takes, beside a machine's"),
    "eval": Command("evaluate", "measure an agent on benchmarks, or compare two such runs"),
    "solve": Command("solve", "answer one question, each step shown as it happens"),
    "analyse": Command("analyse", "the paper's analyses over saved trajectories"),
    "judge": Command("judge", "have an LLM judge the answers that a run saved"),
    "replay": Command("replay", "run recorded trajectories again without a model"),
    "view": Command("view", "look at runs: one HTML page, or a local server that follows them"),
    "prompts": Command("prompts", "write out the modules' prompt templates"),
    "tools": Command("tools", "start tool servers, or list what they offer"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that ``arguments`` name; returns the process's exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = next((word for word in words if word in COMMANDS), "")
    options = _parser(name).parse_args(words)
    # Trajectories, answers and reports are nobody else's by default.
    before = os.umask(options.umask)
    try:
        return _run(name, options)
    finally:
        os.umask(before)


def _run(name: str, options: argparse.Namespace) -> int:
    try:
        status: int = options.run(options)
    except ConfigError as error:
        return _fail(name, str(error), WRONG_USE)
    except InfraError as error:
        return _fail(name, f"{error}; fix this and rerun the same command", FAULT)
    except ModuleNotFoundError as error:
        return _fail(name, _missing_package(error), WRONG_USE)
    except BrokenPipeError:
        # The reader of our output, such as head, has had enough. Python flushes stdout once more
        # at exit and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(name, _system_error(error), WRONG_USE)
    except KeyboardInterrupt:
        return _fail(name, "stopped", INTERRUPTED)
    return status


def _parser(name: str) -> argparse.ArgumentParser:
    """All commands, with the arguments of one: no other command's modules are imported."""
    parser = argparse.ArgumentParser(
        prog="agentflow", description="Train, measure and inspect a tool-using agent with verl."
    )
    parser.add_argument("--version", action="version", version=f"agentflow_verl {__version__}")
    parser.add_argument(
        "--umask",
        type=_umask,
        default=PRIVATE,
        metavar="DIGITS",
        help="of the files that a command writes, such as 022 (default: 077, for you alone)",
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for known, command in COMMANDS.items():
        subparser = subparsers.add_parser(known, help=command.summary)
        if known == name:
            command.load(subparser)
    return parser


def _umask(text: str) -> int:
    try:
        return parse_umask(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _missing_package(error: ModuleNotFoundError) -> str:
    """The extra that brings the package. A module that no extra brings is a bug: raises again."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        raise error
    return f"this needs {package}: pip install 'agentflow_verl[{EXTRAS[package]}]'"


def _system_error(error: OSError) -> str:
    """One line for a file that cannot be read or written. Other errors of the system are raised."""
    if error.filename is None or error.strerror is None:
        raise error
    return f"{error.filename}: {error.strerror}"


def _fail(name: str, message: str, status: int) -> int:
    print(f"agentflow {name}: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
