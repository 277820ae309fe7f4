"""The three trainer modes differ from verl's in five methods, and every one of them trains with our
loss.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import ray
import torch
from verl.experimental.separation.engine_workers import DetachActorWorker
from verl.single_controller.base.decorator import MAGIC_ATTR
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1.trainer_base import get_trainer_cls
from verl.workers.engine_workers import ActorRolloutRefWorker, TrainingWorker

from agentflow_verl.trainer import trainers as modes
from agentflow_verl.trainer.actor_loss import with_flow_loss
from tests.config.test_hydra import composed, hydra  # noqa: F401 - a fixture, used by name

MODES = {
    "sync": ActorRolloutRefWorker,
    "colocate_async": ActorRolloutRefWorker,
    "separate_async": DetachActorWorker,
}


def bare(mode: str, *overrides: str) -> modes.FlowTrainer:
    """A trainer with its configuration and nothing started."""
    trainer = object.__new__(get_trainer_cls(f"agentflow_{mode}"))
    trainer.config = composed(f"trainer.v1.trainer_mode=agentflow_{mode}", *overrides)
    return trainer


@pytest.mark.parametrize("mode", MODES)
def test_the_actor_worker_is_verls_with_our_loss(mode):
    trainer = bare(mode)
    trainer._init_resource_pool_mgr()
    worker = trainer.role_worker_mapping[Role.ActorRolloutRef].__ray_metadata__.modified_class
    assert issubclass(worker, MODES[mode])
    assert worker.init_model.__qualname__.startswith("_FlowLoss")
    assert getattr(worker.init_model, MAGIC_ATTR) == getattr(
        ActorRolloutRefWorker.init_model, MAGIC_ATTR
    )  # what verl dispatches by


@pytest.mark.parametrize("mode", MODES)
def test_verls_own_code_sees_its_own_name_for_the_mode(mode):
    trainer = bare(mode)
    trainer.trainer_mode = f"agentflow_{mode}"
    assert trainer.trainer_mode == mode


def test_rollouts_on_machines_of_their_own_have_our_loss_in_actor_and_reference():
    trainer = bare("separate_async")
    trainer._enable_hybrid_replicas = False
    trainer._init_resource_pool_mgr()
    for role in (Role.Actor, Role.RefPolicy):
        assert issubclass(
            trainer.role_worker_mapping[role].__ray_metadata__.modified_class, DetachActorWorker
        )


def test_an_actor_worker_that_the_loss_was_not_made_for_is_refused():
    with pytest.raises(TypeError, match="TrainingWorker"):
        with_flow_loss(ray.remote(TrainingWorker))


@pytest.mark.parametrize("synced_every", [1, 3])
def test_a_step_takes_as_many_prompts_as_verls_mini_batch_in_every_mode(synced_every, monkeypatch):
    """separate_async samples ppo_mini_batch_size prompts at a time, however many such batches lie
    between two syncs.
    """
    trainer = bare("separate_async", "actor_rollout_ref.actor.ppo_mini_batch_size=4")
    trainer.parameter_sync_step = synced_every
    trainer.use_reference_policy = True
    trainer.tokenizer = SimpleNamespace(eos_token_id=0)
    trainer.actor_rollout_wg = SimpleNamespace(_dispatch_info={"actor": [0]})
    monkeypatch.setattr(modes, "upsample_batch_to_divisible_size", lambda batch, size, _: batch)
    monkeypatch.setattr(modes, "trained_tokens", lambda batch: 8)
    monkeypatch.setattr(modes, "read_rows", lambda batch: [torch.arange(5)] * len(batch))
    keys = [f"{group}_{session}_0" for group in range(4) for session in range(2)]

    class Rows(SimpleNamespace):
        def __len__(self) -> int:
            return len(self.keys)

        def reorder(self, order: list[int]) -> None:
            assert sorted(order) == list(range(8))

    trainer._balance_batch(Rows(keys=keys, tags=[{"seq_len": 5}] * 8), {})
    assert trainer._steps == 1
