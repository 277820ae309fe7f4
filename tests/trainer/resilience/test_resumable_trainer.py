"""verl's trainer with ours around it goes on from a checkpoint: the log, and the order of the
questions.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from torchdata.stateful_dataloader import StatefulDataLoader
from verl.trainer.ppo.utils import create_rl_sampler
from verl.trainer.ppo.v1.trainer_base import PPOTrainer

from tests.config.test_hydra import composed, hydra  # noqa: F401 - a fixture, used by name
from tests.trainer.resilience.test_log_rollback import steps, write
from tests.trainer.test_trainers import bare


@pytest.mark.parametrize("found", [0, 2])
def test_the_trainer_sets_aside_after_the_checkpoint_that_verl_found(
    found,
    tmp_path,
    monkeypatch,
    caplog,
    hydra,  # noqa: F811
):
    for step in (1, 2, 3):
        write(tmp_path, step)
    trainer = bare("sync", f"agentflow.trajectory_dir={tmp_path}")
    monkeypatch.setattr(
        PPOTrainer, "_load_checkpoint", lambda self: setattr(self, "global_steps", found)
    )
    trainer._load_checkpoint()
    assert steps(tmp_path) == list(range(1, found + 1))
    assert ("resumed from the checkpoint of step 2" in caplog.text) == (found == 2)


@pytest.mark.parametrize("killed_after", [1, 4, 5, 7, 10])
def test_the_order_of_questions_is_that_of_a_run_without_a_break(killed_after, hydra):  # noqa: F811
    """verl's own loader and sampler over three epochs of five batches; its state is saved and
    loaded as verl does.
    """
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
    return StatefulDataLoader(
        range(10),
        batch_size=2,
        drop_last=True,
        collate_fn=list,
        sampler=create_rl_sampler(config, range(10)),
    )


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
