"""The trajectory log of a run that goes on holds every step once, and nothing of it is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentflow_verl.trainer.resilience.log_rollback import (
    SET_ASIDE,
    set_aside_groups,
    set_aside_steps,
)
from agentflow_verl.trajectories.log import ScoredTrajectory, TrajectoryLog, read_log
from agentflow_verl.trajectories.records import Outcome, Trajectory


def write(
    folder: Path,
    step: int,
    split: str = "train",
    group: str = "g",
    session: int = 0,
    worker: str = "a",
) -> None:
    log = TrajectoryLog(folder)
    log.worker = worker
    trajectory = Trajectory(
        id=f"{group}_{session}", query="q\u2028?", turns=(), outcome=Outcome.ANSWERED, timings={}
    )
    log.write(
        ScoredTrajectory(
            step=step,
            split=split,
            group=group,
            session=session,
            data_source="s",
            reward=1.0,
            trajectory=trajectory,
        )
    )


def steps(folder: Path, split: str = "train") -> list[int]:
    return [scored.step for scored in read_log(folder, split)]


def test_steps_after_the_checkpoint_are_set_aside_and_said(tmp_path, caplog):
    for step in (1, 2, 3, 4):
        write(tmp_path, step)
    assert set_aside_steps(tmp_path, 2, validates=False) == 2
    assert steps(tmp_path) == [1, 2]
    assert steps(tmp_path / SET_ASIDE / "1") == [3, 4]
    assert "after step 2" in caplog.text and "step 3, 4" in caplog.text


@pytest.mark.parametrize(("validates", "left"), [(True, [0]), (False, [0, 2])])
def test_a_validation_at_the_checkpoint_is_set_aside_where_it_is_run_again(
    validates, left, tmp_path
):
    for step in (0, 2, 4):
        write(tmp_path, step, split="val")
    set_aside_steps(tmp_path, 2, validates)
    assert steps(tmp_path, "val") == left


def test_a_run_from_scratch_sets_all_aside_and_a_new_folder_needs_nothing(tmp_path, caplog):
    assert set_aside_steps(tmp_path, 0, validates=True) == 0
    assert not list(tmp_path.iterdir()) and not caplog.text
    write(tmp_path, 0, split="val")
    write(tmp_path, 1)
    assert set_aside_steps(tmp_path, 0, validates=True) == 2
    assert steps(tmp_path) == steps(tmp_path, "val") == []


def test_a_second_resume_has_a_folder_of_its_own(tmp_path):
    for number in ("1", "2"):
        write(tmp_path, 3)
        set_aside_steps(tmp_path, 2, validates=False)
        assert steps(tmp_path / SET_ASIDE / number) == [3]


def test_questions_that_are_asked_again_leave_the_log_and_others_stay(tmp_path):
    write(tmp_path, 1, group="done")
    write(tmp_path, 2, group="done2", worker="b")
    write(tmp_path, 2, group="cut", worker="b")
    write(tmp_path, 2, group="cut", session=1, worker="b")
    assert set_aside_groups(tmp_path, {"cut", "not logged"}) == 2
    assert [scored.group for scored in read_log(tmp_path)] == ["done", "done2"]
    assert [(scored.group, scored.session) for scored in read_log(tmp_path / SET_ASIDE / "1")] == [
        ("cut", 0),
        ("cut", 1),
    ]
    assert set_aside_groups(tmp_path, {"cut"}) == 0


def test_a_line_that_a_kill_cut_short_stays_where_it_is(tmp_path):
    write(tmp_path, 1, group="done")
    write(tmp_path, 1, group="cut")
    (path,) = tmp_path.glob("train/*/*.jsonl")
    half = path.read_bytes()[:80] + "ë".encode()[:1]
    path.write_bytes(path.read_bytes() + half)
    assert set_aside_groups(tmp_path, {"cut"}) == 1
    assert [scored.group for scored in read_log(tmp_path)] == ["done"]
    assert path.read_bytes().endswith(half + b"\n")
