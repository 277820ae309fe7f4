"""``agentflow eval``: measure an agent on benchmarks, or compare two such runs."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from agentflow_verl.cli.options import add_agent, at_least_one
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.evaluation import compare, questions, report, session, settings, store
from agentflow_verl.evaluation.leakage import QuestionIndex
from agentflow_verl.evaluation.output import prepare_folder
from agentflow_verl.evaluation.progress import Progress
from agentflow_verl.evaluation.runner import Runner
from agentflow_verl.trajectories.log import ScoredTrajectory
from agentflow_verl.trajectories.manifest import Setup, absolute

INTERRUPTED = 130


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--compare",
        nargs=2,
        type=Path,
        metavar=("A", "B"),
        help="compare two finished runs instead of making one",
    )
    parser.add_argument(
        "--benchmarks",
        metavar="NAMES",
        help=f"comma-separated: {', '.join(questions.BENCHMARKS)}, files of your own, or all of"
        " the ten",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder with NAME.json, NAME.jsonl, NAME.csv or NAME.parquet",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the run; a run that was stopped continues there (with --compare: B)",
    )
    parser.add_argument(
        "--trials",
        type=at_least_one,
        default=1,
        help="trajectories per question (default: %(default)s)",
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
    parser.add_argument(
        "--price",
        action="append",
        default=[],
        metavar="ENGINE=IN,OUT",
        help="dollars per million tokens, for the report's cost; engines are policy, base and the"
        " configured endpoints",
    )
    _add_judge(parser)
    add_agent(parser)


def _add_judge(parser: ArgumentParser) -> None:
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


def run(options: Namespace) -> int:
    if options.compare is not None:
        first, second = options.compare
        folder = options.out or second
        if options.out is not None:
            prepare_folder("--out", folder)
        compare.write(first, second, folder)
        return _show(folder / "compare.md")
    _require_options(options)
    try:
        evaluate(options)
    except KeyboardInterrupt:
        print(
            "\nstopped: rerun the same command to resume; the report so far:"
            f" {options.out / 'report.md'}",
            file=sys.stderr,
        )
        return INTERRUPTED
    return _show(options.out / "report.md")


def _show(page: Path) -> int:
    print(f"{page.read_text(encoding='utf-8')}\n{page.with_suffix('.html')}")
    return 0


def _require_options(options: Namespace) -> None:
    for name in ("benchmarks", "data", "out"):
        if getattr(options, name) is None:
            raise ConfigError(
                f"--{name} is missing: agentflow eval --benchmarks NAMES --data DIR --out DIR, or"
                " --compare A B"
            )


def evaluate(options: Namespace) -> None:
    """Run or resume an evaluation and write its report. Raises ConfigError or InfraError."""
    benchmarks = _benchmarks(options)
    wanted = settings.Settings.from_args(options)
    folder = store.Store(options.out, options.umask)
    if folder.complete(wanted.recorded(), benchmarks, options.trials):
        report.write(options.out, *store.open_run(options.out))
        return
    prepare_folder("--out", options.out)
    with _log_file(options.out), session.running(wanted, options.out / "servers") as servers:
        asyncio.run(_evaluate(options, wanted, servers, benchmarks, folder))


def _benchmarks(options: Namespace) -> list[questions.Benchmark]:
    names = [name.strip() for name in options.benchmarks.split(",") if name.strip()]
    if names == ["all"]:
        names = list(questions.BENCHMARKS)
    if not names:
        raise ConfigError("--benchmarks names none")
    # Named twice, a benchmark is still asked once.
    unique = dict.fromkeys(names)
    return [questions.load(name, options.data, options.limit) for name in unique]


async def _evaluate(
    options: Namespace,
    wanted: settings.Settings,
    servers: session.Servers,
    benchmarks: Sequence[questions.Benchmark],
    folder: store.Store,
) -> None:
    started = time.monotonic()
    async with (
        session.session(wanted, servers) as opened,
        session.judging(wanted, options.out) as judge,
    ):
        header = folder.begin(_header(options, wanted, opened), benchmarks)
        setup = Setup(
            limits=wanted.config.limits,
            tools=opened.tools.specs,
            prompts=absolute(wanted.config.prompts),
            prompts_digest=wanted.prompts.digest,
        )
        setup.save(folder.log.folder, options.umask)
        results = folder.results()
        planned = store.jobs(benchmarks, options.trials)
        # Not all that are scored: an earlier command may have run more trials or questions.
        before = [results.scored[job.id] for job in planned if job.id in results.scored]
        runner = Runner(
            opened.engines,
            opened.tools,
            wanted.config.limits,
            QuestionIndex(chain.from_iterable(benchmark.questions for benchmark in benchmarks)),
            options.concurrency,
            judge=judge,
            prompts=wanted.prompts,
        )
        with Progress(len(planned), before) as progress:

            def record(entry: ScoredTrajectory) -> None:
                folder.log.write(entry)
                results.add(entry)
                progress.add(entry)

            try:
                await runner.run(store.left(planned, results), record)
            finally:
                header = folder.finish(header, time.monotonic() - started)
                report.write(options.out, header, results)


def _header(
    options: Namespace, wanted: settings.Settings, opened: session.Session
) -> dict[str, Any]:
    return {
        "settings": wanted.recorded(),
        "engines": {**opened.about_engines, **session.about_judge(wanted)},
        "tools": opened.about_tools,
        "versions": session.versions(),
        "trials": options.trials,
        "prices": {name: list(pair) for name, pair in wanted.prices.items()},
    }


@contextmanager
def _log_file(folder: Path) -> Iterator[None]:
    """Messages go to a file of the run, so that the progress bar stays whole."""
    handler = logging.FileHandler(folder / "eval.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
    logger = logging.getLogger("agentflow_verl")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
