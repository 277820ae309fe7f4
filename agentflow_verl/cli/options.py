"""Arguments that several commands share. Imports nothing that takes time."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_agent(parser: argparse.ArgumentParser) -> None:
    """The models, the tools and the limits of the agent that answers."""
    _add_models(parser.add_argument_group("models"))
    agent = parser.add_argument_group("agent")
    agent.add_argument(
        "--tool",
        action="append",
        default=[],
        metavar="TOOL",
        help="a tool server: 'name=URL', or 'name ARGS…' to start one; may be repeated"
        " (default: python_coder)",
    )
    agent.add_argument("--max-turns", type=at_least_one, help="(default: 10)")
    agent.add_argument(
        "--time-budget",
        type=float,
        metavar="S",
        help="seconds per trajectory (default: 300)",
    )
    agent.add_argument(
        "--memory-tokens",
        type=at_least_one,
        help="what the memory may take of a prompt (default: 2048)",
    )
    agent.add_argument(
        "--prompts",
        type=Path,
        metavar="DIR",
        help="folder whose MODULE.md files replace the shipped prompt templates (agentflow prompts"
        " writes those)",
    )
    agent.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="YAML of the agentflow node, such as a training run's hydra/.hydra/config.yaml",
    )


def _add_models(models: argparse._ArgumentGroup) -> None:
    models.add_argument(
        "--model",
        help="checkpoint to serve, with vLLM, or with SGLang where that alone is installed; with"
        " --endpoint, the model's name there",
    )
    models.add_argument(
        "--endpoint", metavar="URL", help="an OpenAI-compatible endpoint, up to and including /v1"
    )
    models.add_argument(
        "--planner",
        metavar="PATH|URL",
        help="the planner, where it is not the frozen modules' model",
    )
    models.add_argument(
        "--planner-model",
        metavar="NAME",
        help="the planner's name at its endpoint, such as a LoRA adapter's",
    )
    models.add_argument(
        "--api-key-env",
        metavar="NAME",
        help="the environment variable that holds the endpoints' key",
    )
    models.add_argument(
        "--server-args",
        "--vllm-args",
        default="",
        metavar="ARGS",
        help="further arguments of the model servers (vLLM's or SGLang's), in one string",
    )
    models.add_argument(
        "--temperature",
        type=float,
        default=0.7,
        help="the planner's (default: %(default)s); frozen modules have base.temperature, 0",
    )
    models.add_argument(
        "--max-tokens", type=at_least_one, help="longest reply of a module (default: 1024)"
    )
    models.add_argument(
        "--chat-template-kwargs",
        metavar="JSON",
        help="arguments of the models' chat template, such as '{\"enable_thinking\": false}'"
        " (default: those of the run whose file --config names)",
    )
    models.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the sampling; each call derives its own seed from it",
    )


def at_least_one(text: str) -> int:
    """Parse a count for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return value
