"""A Ray actor that was killed ends the run with its name; one that is only busy does not."""

from __future__ import annotations

import os
import signal
import time
from types import SimpleNamespace

import pytest
import ray
from ray.exceptions import RayActorError

from agentflow_verl.core.errors import InfraError
from agentflow_verl.trainer.resilience.actor_watch import ActorWatch
from agentflow_verl.trainer.rollout.manager import FlowManager
from tests.trainer.resilience.actors import Worker

pytestmark = pytest.mark.usefixtures("cluster")


def check_for(watch: ActorWatch, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        watch.check()
        time.sleep(0.05)


def test_a_killed_actor_is_named_with_what_to_do():
    living, killed = Worker.remote(), Worker.remote()
    pid = ray.get(killed.pid.remote())
    watch = ActorWatch({"agent-loop worker 0": living, "agent-loop worker 1": killed}, every_s=0.05)
    check_for(watch, 0.5)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(
        InfraError, match="the agent-loop worker 1 died .* rerun the same command to resume"
    ):
        check_for(watch, 60)


def test_a_busy_actor_is_not_a_dead_one():
    busy = Worker.remote()
    ray.get(busy.pid.remote())
    busy.wait.remote()
    check_for(ActorWatch({"worker": busy}, every_s=0.05), 1.0)


def test_an_actor_that_always_answers_at_once_hangs_when_it_does_not():
    busy, stopped = Worker.remote(), Worker.remote()
    pids = ray.get([busy.pid.remote(), stopped.pid.remote()])
    watch = ActorWatch(
        {"policy server 0": busy, "agent-loop worker 0": stopped},
        every_s=0.05,
        prompt=["agent-loop worker 0"],
        silent_after_s=1.0,
    )
    check_for(watch, 0.5)
    busy.wait.remote()
    os.kill(pids[1], signal.SIGSTOP)
    with pytest.raises(InfraError, match="agent-loop worker 0 has not answered .* rerun the same"):
        check_for(watch, 30)
    ray.kill(stopped)


def test_a_call_that_failed_is_explained_by_the_actor_that_died():
    living, killed = Worker.remote(), Worker.remote()
    ray.get([living.pid.remote(), killed.pid.remote()])
    watch = ActorWatch({"frozen base server 0": living, "frozen base server 1": killed})
    watch.explain()
    ray.kill(killed)
    with pytest.raises(RayActorError):
        while True:  # a call may still be answered
            ray.get(killed.pid.remote())
    with pytest.raises(InfraError, match="frozen base server 1 died"):
        watch.explain()


@pytest.mark.parametrize(("replicas", "needed"), [(0, []), (1, ["frozen base server 0"]), (2, [])])
def test_a_run_needs_its_only_frozen_base_and_none_of_several_in_particular(replicas, needed):
    manager = object.__new__(FlowManager)
    manager.agent_loop_workers, manager.replicas = (
        ["worker"],
        [SimpleNamespace(servers=["server"])] * replicas,
    )
    assert list(manager.actors()) == ["agent-loop worker 0", *needed]
