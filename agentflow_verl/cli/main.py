"""``agentflow``: the command line.

agentflow doctor [CONFIG OVERRIDES…]   what loaded, which versions, and whether engines and tools answer
agentflow eval --benchmarks NAMES …    accuracy on benchmarks; --compare A B for two runs
agentflow solve "QUESTION" …           one question, each step shown as it happens
agentflow analyse WHAT RUN_DIR…        the paper's analyses over saved trajectories
agentflow judge RUN_DIR …              an LLM judge over a run's answers, and where it and the rules differ
agentflow replay FILE[:ID]             trajectories run again from their records, and what now comes out differently
agentflow view RUN_DIR…                a run's trajectories and curves as one HTML page
agentflow tools up [NAMES…]            start tool servers, report their addresses, end them together
agentflow tools list URL…              what the tool servers at these addresses offer
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from agentflow_verl.cli import options
from agentflow_verl.core.errors import ConfigError, InfraError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="agentflow", description="Train and inspect a tool-using agent with verl."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    doctor = commands.add_parser(
        "doctor", help="check this installation, and a run's configuration"
    )
    doctor.add_argument(
        "overrides", nargs="*", help="Hydra overrides of the run, such as platform=cpu"
    )
    doctor.add_argument("--config-name", default="agentflow")
    doctor.add_argument(
        "--config-dir", type=Path, metavar="FOLDER", help="where that config is, such as recipes"
    )
    doctor.set_defaults(run=_doctor)
    for name, add, run, about in (
        (
            "eval",
            options.add_eval,
            _eval,
            "measure an agent on benchmarks, or compare two such runs",
        ),
        ("solve", options.add_solve, _solve, "answer one question, each step shown as it happens"),
        ("analyse", options.add_analyse, _analyse, "the paper's analyses over saved trajectories"),
    ):
        command = commands.add_parser(name, help=about)
        add(command)
        command.set_defaults(run=run)
    judge = commands.add_parser(
        "judge",
        help="have an LLM judge a run's saved answers, and report where it and the rules differ",
    )
    judge.add_argument("folder", type=Path, metavar="RUN_DIR", help="a folder with trajectories/")
    judge.add_argument(
        "--endpoint",
        required=True,
        metavar="URL",
        help="an OpenAI-compatible endpoint, up to and including /v1",
    )
    judge.add_argument("--model", required=True, help="its name there")
    judge.add_argument(
        "--api-key-env", metavar="NAME", help="the environment variable that holds the key"
    )
    judge.add_argument("--split", choices=("val", "train"), default="val")
    judge.add_argument(
        "--concurrency", type=int, default=16, help="requests at once (default: %(default)s)"
    )
    judge.add_argument(
        "--out", type=Path, metavar="DIR", help="for judge.md and judge.json; RUN_DIR if not given"
    )
    judge.set_defaults(run=_judge)
    again = commands.add_parser(
        "replay",
        help=(
            "run recorded trajectories again without a model; 1 where something comes out"
            " differently"
        ),
    )
    again.add_argument(
        "source",
        metavar="FILE[:ID]",
        help="a file of the trajectory log, or what solve --json wrote; one of its trajectories",
    )
    again.add_argument(
        "--tokenizer",
        metavar="PATH",
        help="a model's folder, to compare prompts; the one of the run if not given",
    )
    again.set_defaults(run=_replay)
    view = commands.add_parser(
        "view", help="look at runs: one HTML page, or a local server that follows them"
    )
    view.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="RUN_DIR",
        help="a folder with trajectories/; several are compared",
    )
    view.add_argument(
        "--out", type=Path, help="the page; view.html in the first folder if not given"
    )
    view.add_argument(
        "--serve", action="store_true", help="serve the page on this machine and follow the runs"
    )
    view.add_argument("--port", type=int, default=8765, help="for --serve; 0 takes a free one")
    view.add_argument(
        "--tokenizer", type=Path, help="a tokenizer.json; the one saved with the run if not given"
    )
    view.set_defaults(run=_view)
    _add_tools(commands.add_parser("tools", help="start tool servers, or list what they offer"))
    given = parser.parse_args(arguments)
    try:
        return given.run(given)
    except ConfigError as wrong:
        print(f"agentflow {given.command}: {wrong}", file=sys.stderr)
        return 2
    except InfraError as fault:
        print(
            f"agentflow {given.command}: {fault}; once that is mended, the same command goes on",
            file=sys.stderr,
        )
        return 3


def _doctor(given: argparse.Namespace) -> int:
    from agentflow_verl.cli import doctor as checks  # imports verl: only when asked

    return checks.report(given.config_name, given.overrides, given.config_dir)


def _eval(given: argparse.Namespace) -> int:
    from agentflow_verl.cli import evaluate as command

    try:
        path = command.evaluate(given)
    except KeyboardInterrupt:
        print(
            "\nstopped: the same command goes on; the report of what there is:"
            f" {given.out / 'report.md'}",
            file=sys.stderr,
        )
        return 130
    print(f"{path.read_text(encoding='utf-8')}\n{path.with_suffix('.html')}")
    return 0


def _solve(given: argparse.Namespace) -> int:
    from agentflow_verl.cli import evaluate as command

    trajectory = command.answer(
        given, lambda step: print(f"--- {step.who} ({step.by})\n{step.text}\n", flush=True)
    )
    print(f"=== {trajectory.outcome.value}: {trajectory.error or trajectory.answer}")
    return 0 if trajectory.outcome.valid else 3


def _analyse(given: argparse.Namespace) -> int:
    from agentflow_verl.cli import evaluate as command

    path = command.analyse(given)
    print(f"{path.read_text(encoding='utf-8')}\n{path.with_suffix('.html')}")
    return 0


def _judge(given: argparse.Namespace) -> int:
    from agentflow_verl.config.base import validate
    from agentflow_verl.config.endpoint import EndpointConfig
    from agentflow_verl.config.judge import JudgeConfig
    from agentflow_verl.evaluation import rejudge

    node = {
        "base_url": given.endpoint,
        "model": given.model,
        "api_key_env": given.api_key_env,
        "concurrency": given.concurrency,
    }
    endpoint = validate(EndpointConfig, node, "endpoint")
    out = given.out or given.folder
    judge = JudgeConfig(mode="alone", cache_dir=str(out / "judge_cache"))
    try:
        page = rejudge.write(given.folder, judge, endpoint, given.split, out)
    except InfraError as fault:
        print(
            f"agentflow judge: {fault}; what was judged is kept, the same command goes on",
            file=sys.stderr,
        )
        return 3
    print(f"{page.read_text(encoding='utf-8')}\n{page}")
    return 0


def _replay(given: argparse.Namespace) -> int:
    from agentflow_verl.cli import replay as replay_command

    different = 0
    for line in replay_command.lines(given.source, given.tokenizer):
        print(line.text, flush=True)
        different += line.different
    return 1 if different else 0


def _view(given: argparse.Namespace) -> int:
    from agentflow_verl.cli import view as command

    if given.serve:
        with command.serve(given.folders, given.tokenizer, given.port) as server:
            print(f"http://127.0.0.1:{server.server_port}/", flush=True)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                pass
        return 0
    path = given.out or given.folders[0] / "view.html"
    count = command.write(given.folders, given.tokenizer, path)
    print(f"{path}: {count} trajectories, {path.stat().st_size / 1e6:.1f} MB")
    return 0


def _add_tools(parser: argparse.ArgumentParser) -> None:
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
    up.add_argument("--logs", metavar="FOLDER", help="a file a server (default: standard error)")
    up.set_defaults(run=_tools)
    listed = actions.add_parser("list", help="tools, arguments and notes of running servers")
    listed.add_argument(
        "urls", nargs="+", metavar="URL", help="MCP endpoint, such as http://127.0.0.1:8101/mcp"
    )
    listed.set_defaults(run=_tools)


def _tools(given: argparse.Namespace) -> int:
    from agentflow_verl.cli import tools as tool_commands

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if given.action == "list":
        lines = tool_commands.listing(given.urls)
    else:
        configs = tool_commands.configured(given.names, given.config)
        lines = tool_commands.up(configs, bool(given.names), given.logs)
    for line in lines:
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
