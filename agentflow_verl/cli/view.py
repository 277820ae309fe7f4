"""``agentflow view``: from run folders to a page or a server."""

from __future__ import annotations

from collections.abc import Sequence
from http.server import ThreadingHTTPServer
from pathlib import Path

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trajectories.run_folder import Run
from agentflow_verl.view import html
from agentflow_verl.view.detail import Pieces
from agentflow_verl.view.index import Index
from agentflow_verl.view.serve import server


def write(folders: Sequence[Path], tokenizer: Path | None, path: Path) -> int:
    """Write the page; how many trajectories are in it. Raises ConfigError for a folder without any."""
    index = Index()
    for run, pieces in _open(folders, tokenizer):
        run.refresh()
        if not run.entries:
            raise ConfigError(
                f"{run.log}: no trajectories; expected train/ or val/ with step_N/*.jsonl, as a run"
                " writes them"
            )
        index.add(run, pieces)
    html.write(index, path, ", ".join(run["name"] for run in index.runs))
    return len(index.trajectories)


def serve(folders: Sequence[Path], tokenizer: Path | None, port: int) -> ThreadingHTTPServer:
    """A server that follows the runs; ``serve_forever`` runs it."""
    opened = _open(folders, tokenizer)
    return server([run for run, _ in opened], [pieces for _, pieces in opened], port)


def _open(folders: Sequence[Path], tokenizer: Path | None) -> list[tuple[Run, Pieces]]:
    if tokenizer is not None and not tokenizer.is_file():
        raise ConfigError(f"--tokenizer {tokenizer}: there is no such file; name a tokenizer.json")
    runs = [Run(folder) for folder in folders]
    return [(run, Pieces(tokenizer or run.tokenizer)) for run in runs]
