"""What the command line calls: run and compare evaluations, solve one question, analyse saved
trajectories.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.evaluation import analyses, compare, questions, report, session, settings, store
from agentflow_verl.evaluation.leakage import QuestionIndex
from agentflow_verl.evaluation.progress import Progress
from agentflow_verl.evaluation.runner import Runner
from agentflow_verl.evaluation.solve import Show, solve
from agentflow_verl.trajectories.manifest import Setup
from agentflow_verl.trajectories.records import Trajectory


def evaluate(given: Namespace) -> Path:
    """Run, or go on with, an evaluation, or compare two; the report's path. Raises ConfigError or
    InfraError.
    """
    if given.compare is not None:
        folder = given.out or given.compare[1]
        compare.write(*given.compare, folder)
        return folder / "compare.md"
    for option in ("benchmarks", "data", "out"):
        if getattr(given, option) is None:
            raise ConfigError(
                f"--{option} is missing: agentflow eval --benchmarks NAMES --data DIR --out DIR, or"
                " --compare A B"
            )
    names = (
        questions.BENCHMARKS
        if given.benchmarks == "all"
        else tuple(name.strip() for name in given.benchmarks.split(",") if name.strip())
    )
    benchmarks = [questions.load(name, given.data, given.limit) for name in dict.fromkeys(names)]
    if not benchmarks:
        raise ConfigError("--benchmarks names none")
    wanted = settings.of(given)
    folder = store.Store(given.out)
    if folder.complete(wanted.recorded(), benchmarks, given.trials):
        report.write(given.out, *store.open_run(given.out))
        return given.out / "report.md"
    with _log_file(given.out), session.running(wanted, given.out / "servers") as servers:
        asyncio.run(_evaluate(given, wanted, servers, benchmarks, folder))
    return given.out / "report.md"


async def _evaluate(
    given: Namespace,
    wanted: settings.Settings,
    servers: session.Servers,
    benchmarks: Sequence[questions.Benchmark],
    folder: store.Store,
) -> None:
    started = time.monotonic()
    async with (
        session.session(wanted, servers) as opened,
        session.judging(wanted, given.out) as judge,
    ):
        header = folder.begin(_header(given, wanted, opened), benchmarks)
        Setup(limits=wanted.config.limits, tools=opened.tools.specs).save(folder.log.folder)
        results = folder.results()
        planned = store.jobs(benchmarks, given.trials)
        before = [results.scored[job.id] for job in planned if job.id in results.scored]
        runner = Runner(
            opened.engines,
            opened.tools,
            wanted.config.limits,
            QuestionIndex(question for benchmark in benchmarks for question in benchmark.questions),
            given.concurrency,
            judge=judge,
        )
        with Progress(len(planned), before) as progress:

            def done(entry: Any) -> None:
                folder.log.write(entry)
                results.add(entry)
                progress.add(entry)

            try:
                await runner.run(store.left(planned, results), done)
            finally:
                header = folder.finish(header, time.monotonic() - started)
                report.write(given.out, header, results)


def _header(given: Namespace, wanted: settings.Settings, opened: session.Session) -> dict[str, Any]:
    return {
        "settings": wanted.recorded(),
        "engines": {**opened.about_engines, **session.about_judge(wanted)},
        "tools": opened.about_tools,
        "versions": session.versions(),
        "trials": given.trials,
        "prices": {name: list(pair) for name, pair in wanted.prices.items()},
    }


def answer(given: Namespace, show: Show) -> Trajectory:
    """One question; ``show`` gets each step. Raises ConfigError."""
    wanted = settings.of(given)

    async def ask() -> Trajectory:
        async with session.session(wanted, servers) as opened:
            return await solve(
                given.question, opened.engines, opened.tools, wanted.config.limits, show
            )

    with (
        tempfile.TemporaryDirectory(prefix="agentflow-") as logs,
        session.running(wanted, Path(logs)) as servers,
    ):
        trajectory = asyncio.run(ask())
    if given.json is not None:
        given.json.write_text(trajectory.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return trajectory


def analyse(given: Namespace) -> Path:
    """Table and picture of one of the paper's analyses; the table's path. Raises ConfigError."""
    made: dict[str, Callable[[Sequence[Path]], analyses.Analysis]] = {
        "turns": analyses.turns,
        "tools": analyses.tools,
        "training": analyses.training,
    }
    found = made[given.what](given.folders)
    folder, name = given.out or given.folders[0], f"analysis_{given.what}"
    report.save(
        folder,
        name,
        {key: value for key, value in vars(found).items() if key != "pictures"},
        found.pictures,
        "analysis",
    )
    return folder / f"{name}.md"


@contextmanager
def _log_file(folder: Path) -> Iterator[None]:
    """Messages go to a file of the run, so that the progress bar stays whole."""
    folder.mkdir(parents=True, exist_ok=True)
    handler, logger = (
        logging.FileHandler(folder / "eval.log", encoding="utf-8"),
        logging.getLogger("agentflow_verl"),
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
