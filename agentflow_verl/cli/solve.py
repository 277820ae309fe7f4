"""``agentflow solve``: answer one question, each step shown as it happens."""

from __future__ import annotations

import asyncio
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path

from agentflow_verl.cli.options import add_agent
from agentflow_verl.evaluation import session, settings
from agentflow_verl.evaluation.output import prepare_file
from agentflow_verl.evaluation.solve import Step, solve
from agentflow_verl.trajectories.records import Trajectory

FAULT = 3


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("question")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the trajectory, for agentflow view"
    )
    # Settings read them too, but only agentflow eval lets a user choose them.
    parser.set_defaults(price=[], judge=None, concurrency=1)
    add_agent(parser)


def run(options: Namespace) -> int:
    if options.json is not None:
        prepare_file("--json", options.json)
    trajectory = answer(options)
    print(f"=== {trajectory.outcome.value}: {trajectory.error or trajectory.answer}")
    return 0 if trajectory.outcome.valid else FAULT


def answer(options: Namespace) -> Trajectory:
    """The question's trajectory, its steps printed. Raises ConfigError."""
    wanted = settings.Settings.from_args(options)
    with (
        tempfile.TemporaryDirectory(prefix="agentflow-") as logs,
        session.running(wanted, Path(logs)) as servers,
    ):
        trajectory = asyncio.run(_ask(options.question, wanted, servers))
    if options.json is not None:
        text = trajectory.model_dump_json(indent=2) + "\n"
        options.json.write_text(text, encoding="utf-8")
    return trajectory


async def _ask(question: str, wanted: settings.Settings, servers: session.Servers) -> Trajectory:
    async with session.session(wanted, servers) as opened:
        return await solve(
            question,
            opened.engines,
            opened.tools,
            wanted.config.limits,
            show=_print_step,
            prompts=wanted.prompts,
        )


def _print_step(step: Step) -> None:
    print(f"--- {step.who} ({step.by})\n{step.text}\n", flush=True)
