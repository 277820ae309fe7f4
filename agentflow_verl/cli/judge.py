"""``agentflow judge``: have an LLM judge the answers that a run saved, and report where it and the
rules differ.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from agentflow_verl.cli.options import at_least_one
from agentflow_verl.config.base import validate
from agentflow_verl.config.endpoint import EndpointConfig
from agentflow_verl.config.judge import JudgeConfig
from agentflow_verl.core.errors import InfraError
from agentflow_verl.evaluation import rejudge


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="RUN_DIR", help="a folder with trajectories/")
    parser.add_argument(
        "--endpoint",
        required=True,
        metavar="URL",
        help="an OpenAI-compatible endpoint, up to and including /v1",
    )
    parser.add_argument("--model", required=True, help="the judge's name there")
    parser.add_argument(
        "--api-key-env", metavar="NAME", help="the environment variable that holds the key"
    )
    parser.add_argument("--split", choices=rejudge.SPLITS, default="val")
    parser.add_argument(
        "--concurrency",
        type=at_least_one,
        default=16,
        help="requests at once (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="for judge.md and judge.json (default: RUN_DIR)"
    )


def run(options: Namespace) -> int:
    endpoint = validate(
        EndpointConfig,
        {
            "base_url": options.endpoint,
            "model": options.model,
            "api_key_env": options.api_key_env,
            "concurrency": options.concurrency,
        },
        "endpoint",
    )
    out = options.out or options.folder
    judge = JudgeConfig(mode="alone", cache_dir=str(out / "judge_cache"))
    try:
        page = rejudge.write(options.folder, judge, endpoint, options.split, out)
    except InfraError as error:
        raise InfraError(f"{error}; what was judged is kept") from None
    print(f"{page.read_text(encoding='utf-8')}\n{page}")
    return 0
