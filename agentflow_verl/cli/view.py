"""``agentflow view``: look at runs, as one HTML page or over a local server."""

from __future__ import annotations

import errno
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from http.server import ThreadingHTTPServer
from pathlib import Path

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.evaluation.output import prepare_file
from agentflow_verl.trajectories.run_folder import Run
from agentflow_verl.view import html
from agentflow_verl.view.detail import Pieces
from agentflow_verl.view.index import Index
from agentflow_verl.view.serve import server


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="RUN_DIR",
        help="a folder with trajectories/, or what agentflow solve --json wrote; several are"
        " compared",
    )
    parser.add_argument(
        "--out", type=Path, help="the page (default: view.html in the first folder)"
    )
    parser.add_argument(
        "--serve", action="store_true", help="serve the page on this machine and follow the runs"
    )
    parser.add_argument(
        "--port", type=int, default=8765, help="for --serve; 0 takes a free one (default: 8765)"
    )
    parser.add_argument(
        "--tokenizer", type=Path, help="a tokenizer.json (default: the one saved with the run)"
    )


def run(options: Namespace) -> int:
    if options.serve:
        with serve(options.folders, options.tokenizer, options.port) as http_server:
            print(f"http://127.0.0.1:{http_server.server_port}/", flush=True)
            try:
                http_server.serve_forever()
            except KeyboardInterrupt:
                pass
        return 0
    path = options.out or default_page(options.folders[0])
    count = write(options.folders, options.tokenizer, path)
    print(f"{path}: {count} trajectories, {path.stat().st_size / 1e6:.1f} MB")
    return 0


def default_page(source: Path) -> Path:
    """view.html in a folder; beside a file, under its name."""
    return source.with_suffix(".html") if source.is_file() else source / "view.html"


def write(folders: Sequence[Path], tokenizer: Path | None, path: Path) -> int:
    """Write the page; returns how many trajectories it holds. Raises ConfigError for a folder
    without any.
    """
    opened = _open(folders, tokenizer)
    prepare_file("--out", path)
    index = Index()
    for run_folder, pieces in opened:
        run_folder.refresh()
        if not run_folder.entries:
            raise ConfigError(
                f"{run_folder.log}: no trajectories; expected train/ or val/ with step_N/*.jsonl,"
                " as a run writes them"
            )
        index.add(run_folder, pieces)
    html.write(index, path, ", ".join(row["name"] for row in index.runs))
    return len(index.trajectories)


def serve(folders: Sequence[Path], tokenizer: Path | None, port: int) -> ThreadingHTTPServer:
    """A server that follows the runs; ``serve_forever`` runs it. Raises ConfigError where the port
    is taken or not a port number.
    """
    if not 0 <= port <= 65_535:
        raise ConfigError(f"--port {port}: choose one from 1 to 65535, or 0 for a free one")
    opened = _open(folders, tokenizer)
    try:
        return server([run for run, _ in opened], [pieces for _, pieces in opened], port)
    except OSError as error:
        reason = str(error.strerror)
        if error.errno == errno.EADDRINUSE:
            reason = "is taken"
        raise ConfigError(
            f"--port {port}: {reason}; choose another one, or 0 for a free one"
        ) from None


def _open(folders: Sequence[Path], tokenizer: Path | None) -> list[tuple[Run, Pieces]]:
    if tokenizer is not None and not tokenizer.is_file():
        raise ConfigError(f"--tokenizer {tokenizer}: there is no such file; name a tokenizer.json")
    opened = [(run, Pieces(tokenizer or run.tokenizer)) for run in map(Run, folders)]
    for _, pieces in opened:
        if tokenizer is not None and pieces.notes:  # of a run's own it is said on the page
            raise ConfigError(f"--tokenizer {pieces.notes[0]}")
    return opened
