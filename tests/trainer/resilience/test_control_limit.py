"""What verl tells its rollout servers ends within a limit, whichever process behind them hangs.

verl's own manager and replica, over Ray actors in place of vLLM's servers; one of them is stopped.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import RayActorError
from verl.checkpoint_engine.base import CheckpointEngineManager
from verl.workers.config import CheckpointEngineConfig
from verl.workers.rollout.replica import RolloutReplica

from agentflow_verl.core.errors import InfraError
from agentflow_verl.trainer.resilience import control_limit
from agentflow_verl.trainer.resilience.control_limit import LimitedManager
from agentflow_verl.trainer.resilience.resumable_trainer import ResumableTrainer
from agentflow_verl.trainer.rollout import manager as manager_module
from agentflow_verl.trainer.rollout.manager import FlowManager
from tests.config.test_hydra import hydra  # noqa: F401 - a fixture, used by name
from tests.trainer.resilience.actors import Server
from tests.trainer.test_trainers import MODES, bare

pytestmark = pytest.mark.usefixtures("cluster")

CONTROL: dict[str, Callable[[LimitedManager], object]] = {
    "go to sleep": LimitedManager.sleep_replicas,
    "abort their requests": LimitedManager.abort_replicas,
    "go on generating": LimitedManager.resume_generation_replicas,
    "take new weights": LimitedManager.update_weights,
}


class Replica(RolloutReplica):
    """verl's replica, of one server that is there."""

    def __init__(self, rank: int, server: object):
        self.replica_rank, self.servers = rank, [server]

    async def launch_servers(self) -> None: ...


def limited(*servers: object, limit_s: float = 1.0) -> LimitedManager:
    """As the trainer has it. Its actor sends weights by way of the servers, as verl's does."""
    actor = SimpleNamespace(
        update_weights=lambda global_steps, mode: [
            server.take_weights.remote(global_steps) for server in servers
        ]
    )
    replicas = [Replica(rank, server) for rank, server in enumerate(servers)]
    config = CheckpointEngineConfig(backend="naive")
    return LimitedManager(CheckpointEngineManager(config, actor, replicas), limit_s)


@pytest.fixture(scope="module")
def servers(cluster) -> list[Any]:
    """Two that run."""
    made = [Server.remote(), Server.remote()]
    ray.get([server.pid.remote() for server in made])
    return made


@contextmanager
def stopped(server: Any) -> Iterator[None]:
    pid = ray.get(server.pid.remote())
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_servers_that_work_are_told_what_verl_would_tell_them(servers):
    manager = limited(servers[0], limit_s=60)
    manager.sleep_replicas()
    manager.abort_replicas(reject_request=True)
    manager.update_weights(7)
    manager.resume_generation_replicas()
    told = ray.get(servers[0].told.remote())
    assert told == ["sleep", "abort reject=True", "weights 7", "resume"]


def test_each_call_to_a_stopped_server_ends_with_its_name(servers, monkeypatch):
    monkeypatch.setattr(control_limit, "ANSWER_S", 0.7)
    manager = limited(*servers, limit_s=0.2)
    with stopped(servers[1]):
        for purpose, call in CONTROL.items():
            with pytest.raises(InfraError) as ended:
                call(manager)
            said = str(ended.value)
            assert f"did not {purpose} within agentflow.server_timeout_s=0.2 s" in said
            assert "policy server 1); rerun the same command" in said


def test_an_engine_that_hangs_behind_servers_that_answer_is_said_to(servers):
    manager = limited(servers[0], limit_s=0.2)
    manager.manager.replicas[0].sleep = servers[0].hang.remote
    with pytest.raises(InfraError, match="go to sleep .* an engine behind one of them hangs"):
        manager.sleep_replicas()


def test_an_engine_that_died_ends_the_run_in_the_same_words(servers):
    manager = limited(servers[0], limit_s=60)
    manager.manager.replicas[0].sleep = servers[0].fail.remote
    with pytest.raises(
        InfraError, match="could not go to sleep: ValueError: EngineCore died; reru"
    ):
        manager.sleep_replicas()


def test_a_batch_that_a_stopped_worker_does_not_begin_ends_the_run(servers, monkeypatch):
    manager = object.__new__(FlowManager)
    manager.agent_loop_workers = servers
    manager.config = SimpleNamespace(agentflow=SimpleNamespace(server_timeout_s=60))
    batch = SimpleNamespace(chunk=lambda count: ["one", "two"])
    manager.generate_sequences(batch)
    told = ray.get([server.told.remote() for server in servers])
    assert [calls[-1] for calls in told] == ["generate one", "generate two"]
    manager.config.agentflow.server_timeout_s = 0.5
    monkeypatch.setattr(manager_module, "ANSWER_S", 0.7)
    with stopped(servers[0]), pytest.raises(InfraError, match="agent-loop worker 0.*; rerun"):
        manager.generate_sequences(batch)


def test_a_server_that_died_is_an_error_that_the_watch_explains(servers):
    ray.kill(servers[1])
    with pytest.raises(RayActorError):
        limited(servers[1], limit_s=60).sleep_replicas()


@pytest.mark.parametrize("mode", MODES)
def test_every_manager_of_a_mode_is_limited_before_its_first_update(
    mode,
    monkeypatch,
    hydra,  # noqa: F811
):
    names = ["checkpoint_manager"]
    if mode == "separate_async":
        names.append("standalone_checkpoint_manager")
    trainer = bare(mode, "agentflow.server_timeout_s=7")
    told: list[tuple[str, float]] = []
    for name in names:
        monkeypatch.setattr(trainer, name, name, raising=False)
    above = type(trainer).__mro__[type(trainer).__mro__.index(ResumableTrainer) + 1]
    monkeypatch.setattr(
        above,
        "on_init_end",
        lambda self: told.extend((getattr(self, name).manager, 7.0) for name in names),
    )
    trainer.on_init_end()
    assert told == [(name, getattr(trainer, name).limit_s) for name in names]
