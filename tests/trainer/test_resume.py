"""A run that goes on finds its data where it left them, and its trajectory log holds every step once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from torchdata.stateful_dataloader import StatefulDataLoader
from verl.trainer.ppo.utils import create_rl_sampler
from verl.trainer.ppo.v1.trainer_base import PPOTrainer

from agentflow_verl.flow.records import Outcome, Trajectory
from agentflow_verl.rewards.record import ScoredTrajectory, TrajectoryLog, read_log
from agentflow_verl.trainer.resume import SET_ASIDE, set_aside_groups, set_aside_steps
from tests.config.test_hydra import composed, hydra  # noqa: F401 - the fixture composes in verl's search path
from tests.trainer.test_modes import bare


def write(folder: Path, step: int, split: str = "train", group: str = "g", session: int = 0, worker: str = "a") -> None:
    log = TrajectoryLog(folder)
    log.worker = worker
    trajectory = Trajectory(id=f"{group}_{session}", query="q\u2028?", turns=(), outcome=Outcome.ANSWERED, timings={})
    log.write(ScoredTrajectory(step=step, split=split, group=group, session=session, data_source="s", reward=1.0, trajectory=trajectory))


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
def test_a_validation_at_the_checkpoint_is_set_aside_where_it_is_run_again(validates, left, tmp_path):
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
    assert [(scored.group, scored.session) for scored in read_log(tmp_path / SET_ASIDE / "1")] == [("cut", 0), ("cut", 1)]
    assert set_aside_groups(tmp_path, {"cut"}) == 0


@pytest.mark.parametrize("found", [0, 2])
def test_the_trainer_sets_aside_after_the_checkpoint_that_verl_found(found, tmp_path, monkeypatch, caplog, hydra):  # noqa: F811
    for step in (1, 2, 3):
        write(tmp_path, step)
    trainer = bare("sync", f"agentflow.trajectory_dir={tmp_path}")
    monkeypatch.setattr(PPOTrainer, "_load_checkpoint", lambda self: setattr(self, "global_steps", found))
    trainer._load_checkpoint()
    assert steps(tmp_path) == list(range(1, found + 1))
    assert ("resumed from the checkpoint of step 2" in caplog.text) == (found == 2)


@pytest.mark.parametrize("killed_after", [1, 4, 5, 7, 10])
def test_the_order_of_questions_is_that_of_a_run_without_a_break(killed_after, hydra):  # noqa: F811
    """verl's own loader and sampler over three epochs of five batches; its state is saved and loaded as verl does."""
    whole = draw(loader(), 15)
    first = loader()
    before = draw(first, killed_after)
    second = loader()
    second.load_state_dict(first.state_dict())
    assert before + draw(second, 15 - killed_after) == whole
    assert sorted(sum(whole[:5], [])) == sorted(sum(whole[5:10], [])) == list(range(10))
    assert whole[:5] != whole[5:10]


def loader() -> StatefulDataLoader:
    config = composed("data.seed=3").data
    return StatefulDataLoader(range(10), batch_size=2, drop_last=True, collate_fn=list, sampler=create_rl_sampler(config, range(10)))


def draw(source: StatefulDataLoader, batches: int) -> list[list[int]]:
    """As PPOTrainer._fetch_one_gen_batch draws them."""
    trainer = SimpleNamespace(train_dataloader=source, train_dataloader_it=iter(source))
    drawn = []
    for _ in range(batches):
        try:
            drawn.append(next(trainer.train_dataloader_it))
        except StopIteration:
            trainer.train_dataloader_it = iter(trainer.train_dataloader)
            drawn.append(next(trainer.train_dataloader_it))
    return drawn
