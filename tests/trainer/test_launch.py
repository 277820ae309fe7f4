"""What a run says when it is done."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from agentflow_verl.trainer.launch import what_next
from agentflow_verl.trajectories.run_folder import Run
from tests.view.logs import scored, trajectory, write


@pytest.mark.parametrize(
    "log", ["run/trajectories", "kept/elsewhere", "a night's run/trajectories"]
)
def test_the_command_opens_the_run_wherever_its_trajectories_are(log: str, tmp_path: Path) -> None:
    kept = tmp_path / log
    write(kept.parent, scored(trajectory()))
    if kept.name != "trajectories":
        (kept.parent / "trajectories").rename(kept)
    program, verb, folder = shlex.split(what_next(str(kept)).split(": ")[1])
    assert (program, verb) == ("agentflow", "view")
    run = Run(Path(folder))
    run.refresh()
    assert len(run.entries) == 1


def test_nothing_is_said_to_be_seen_where_nothing_was_kept() -> None:
    assert "agentflow view" not in what_next(None)
