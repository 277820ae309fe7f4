"""``agentflow plan``: what a run takes, part by part, beside a machine described here: before a GPU
is rented.
"""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from agentflow_verl.cli.options import at_least_one

GIB = 2**30


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "overrides", nargs="*", help="Hydra overrides of the run, such as trainer.n_gpus_per_node=7"
    )
    parser.add_argument("--config-name", default="agentflow")
    parser.add_argument(
        "--config-dir", type=Path, metavar="FOLDER", help="where that config is, such as recipes"
    )
    machine = parser.add_argument_group("machine (what is left out is not compared)")
    machine.add_argument("--gpus", type=at_least_one, metavar="N", help="GPUs of one node")
    machine.add_argument("--gpu-memory", type=_size, metavar="GIB", help="of one GPU")
    machine.add_argument("--cpus", type=at_least_one, metavar="N", help="CPUs of one node")
    machine.add_argument("--disk", type=_size, metavar="GIB", help="free for checkpoints")
    machine.add_argument(
        "--nodes", type=at_least_one, metavar="N", help="(default: trainer.nnodes)"
    )


def run(options: Namespace) -> int:
    """Returns 0, or 1 where something does not fit."""
    from agentflow_verl.trainer.preflight import installation, static
    from agentflow_verl.trainer.sizing import plan as sizing
    from agentflow_verl.trainer.sizing.machine import Machine
    from agentflow_verl.trainer.sizing.model import size_of

    state: dict[str, Any] = {}
    list(installation.plugin())  # its config names are known once verl is imported
    list(installation.compose(options.config_name, options.overrides, options.config_dir, state))
    config = state["config"]
    settings = static.load_settings(config)
    machine = Machine(
        options.nodes or config.trainer.nnodes,
        options.gpus,
        options.gpu_memory,
        options.cpus,
        options.disk,
    )
    with static.named_errors():
        path = config.actor_rollout_ref.model.path
        plan = sizing.make_plan(
            config, settings, size_of(path), machine, sizing.known_steps(config)
        )
    print(f"{path}: {plan.model.parameters:,} parameters\n")
    for line in [*table(plan, machine.gpu_bytes), *facts(plan)]:
        print(line)
    for problem in plan.problems:
        print(f"does not fit  {problem}")
    for warning in plan.warnings:
        print(f"tight         {warning}")
    if not plan.problems and not plan.warnings:
        print("fits, as far as this can tell")
    return 1 if plan.problems else 0


def table(plan: Any, total: int | None) -> list[str]:
    """The parts of one training GPU's memory, GiB in each phase."""
    if not plan.parts:
        return ["(give --gpu-memory for a table of the GPU's memory)", ""]
    lines = [f"{'GiB on one training GPU':<24} {'update':>8} {'log-probs':>10} {'sampling':>9}"]
    for part in plan.parts:
        lines.append(
            f"{part.name:<24} {part.update / GIB:>8.1f} {part.log_probs / GIB:>10.1f}"
            f" {part.sampling / GIB:>9.1f}  {part.how}"
        )
    sums = [plan.total(phase) / GIB for phase in ("update", "log_probs", "sampling")]
    lines.append(
        f"{'in all':<24} {sums[0]:>8.1f} {sums[1]:>10.1f} {sums[2]:>9.1f}  of {total / GIB:.0f}"
        if total
        else ""
    )
    return [*lines, ""]


def facts(plan: Any) -> list[str]:
    return [f"{name:<13} {found}" for name, found in plan.facts]


def _size(text: str) -> int:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:  # nan neither
        raise argparse.ArgumentTypeError(f"{text} is no size in GiB")
    return int(value * GIB)
