"""The command line of ``agentflow eval``, ``solve`` and ``analyse``. Imports nothing that takes
time.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_eval(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--compare",
        nargs=2,
        type=Path,
        metavar=("A", "B"),
        help="compare two finished runs instead of making one",
    )
    parser.add_argument("--benchmarks", metavar="NAMES", help="comma-separated; bamboogle, 2wiki, hotpotqa, musique, gaia, aime24, amc23, "
                        "gameof24, gpqa, medqa, files of your own, or all of the ten")  # fmt: skip
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder with NAME.json (a list) or NAME.jsonl"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the run; one that was stopped goes on (with --compare: B)",
    )
    parser.add_argument(
        "--trials",
        type=at_least_one,
        default=1,
        help="trajectories a question (default: %(default)s)",
    )
    parser.add_argument(
        "--limit",
        type=at_least_one,
        metavar="N",
        help="only the first N questions of each benchmark",
    )
    parser.add_argument(
        "--concurrency",
        type=at_least_one,
        default=32,
        help="trajectories at once (default: %(default)s)",
    )
    parser.add_argument("--price", action="append", default=[], metavar="ENGINE=IN,OUT",
                        help="dollars a million tokens, for the report's cost; engines are policy, base and the configured endpoints")  # fmt: skip
    judge = parser.add_argument_group("judge")
    judge.add_argument(
        "--judge",
        metavar="URL",
        help="an OpenAI-compatible endpoint whose model judges answers beside the rules",
    )
    judge.add_argument("--judge-model", metavar="NAME", help="its name there")
    judge.add_argument(
        "--judge-mode",
        choices=("fallback", "alone"),
        default="fallback",
        help="fallback: only where the rule says no (the default)",
    )
    judge.add_argument(
        "--judge-key-env", metavar="NAME", help="the environment variable that holds its key"
    )
    _add_agent(parser)


def add_solve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the trajectory")
    parser.set_defaults(price=[], judge=None)
    _add_agent(parser)


def add_analyse(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("turns", "tools", "training"), help="turns: accuracy against the allowed turns, of several "
                        "evaluations; tools: tool mix of each run's first and last step; training: tool errors, planner length and reward by step")  # fmt: skip
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN_DIR")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for the table and its picture; the first run's if not given",
    )


def _add_agent(parser: argparse.ArgumentParser) -> None:
    models = parser.add_argument_group("models")
    models.add_argument(
        "--model", help="checkpoint to serve with vLLM; with --endpoint, the model's name there"
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
        "--vllm-args",
        default="",
        metavar="ARGS",
        help="further arguments of the vLLM servers, in one string",
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
        "--seed",
        type=int,
        default=0,
        help="of the sampling; each call has its own that follows from it",
    )
    agent = parser.add_argument_group("agent")
    agent.add_argument("--tool", action="append", default=[], metavar="TOOL",
                       help="a tool server: 'name=URL', or 'name ARGS…' to start one; repeated for more (default: python_coder)")  # fmt: skip
    agent.add_argument("--max-turns", type=at_least_one, help="(default: 10)")
    agent.add_argument(
        "--time-budget", type=float, metavar="S", help="wall clock of a trajectory (default: 300)"
    )
    agent.add_argument(
        "--memory-tokens",
        type=at_least_one,
        help="what the memory may take of a prompt (default: 2048)",
    )
    agent.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="YAML of the agentflow node, such as a training run's hydra/.hydra/config.yaml",
    )


def at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return value
