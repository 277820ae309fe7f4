"""``agentflow analyse``: the paper's analyses over saved trajectories."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

from agentflow_verl.evaluation import analyses, report
from agentflow_verl.evaluation.output import prepare_folder

ANALYSES: dict[str, Callable[[Sequence[Path]], analyses.Analysis]] = {
    "turns": analyses.turns,
    "tools": analyses.tools,
    "training": analyses.training,
    "credit": analyses.credit,
}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "what",
        choices=tuple(ANALYSES),
        help="turns: accuracy against the allowed turns, of several evaluations; tools: tool mix of"
        " each run's first and last step; training: tool errors, planner length and reward by step;"
        " credit: how success depends on what each turn did, within groups",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN_DIR")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for the table and its picture (default: the first RUN_DIR)",
    )


def run(options: Namespace) -> int:
    first, name = options.folders[0], f"analysis_{options.what}"
    folder = options.out or (first.parent if first.is_file() else first)
    if options.out is not None or folder.is_dir():  # else the analysis says that there is no run
        prepare_folder("--out", folder)
    found = ANALYSES[options.what](options.folders)
    report.save(folder, name, found.table(), found.pictures, template="analysis")
    page = folder / f"{name}.md"
    print(f"{page.read_text(encoding='utf-8')}\n{page.with_suffix('.html')}")
    return 0
