"""Runs that take too long for every change: ``pytest tests/e2e/test_modes.py -m slow``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import slow_update
from tests.e2e.models import save_random
from tests.e2e.runs import Run, logged, train, write_questions

pytestmark = pytest.mark.slow

SEPARATE = (
    *(
        "trainer.v1.trainer_mode=agentflow_separate_async",
        "trainer.v1.separate_async.parameter_sync_step=1",
    ),
    *(
        "actor_rollout_ref.rollout.nnodes=1",
        "actor_rollout_ref.rollout.n_gpus_per_node=1",
        "ray_kwargs.ray_init.num_gpus=3",
    ),
    "actor_rollout_ref.rollout.checkpoint_engine.backend=ray",
)
TWO_RANKS = ("trainer.n_gpus_per_node=2", "ray_kwargs.ray_init.num_gpus=3")


def two_steps(tmp_path: Path, *overrides: str) -> Run:
    write_questions(tmp_path / "data")
    model = save_random("qwen2", tmp_path / "model")
    run = train(
        model,
        tmp_path / "data",
        tmp_path / "run",
        "trainer.total_training_steps=2",
        *overrides,
        timeout=900,
    )
    assert run.code == 0, run.output[-4000:]
    assert sorted(run.metrics) == [1, 2]
    return run


def test_separate_async_trains_with_rollout_servers_of_its_own(tmp_path: Path) -> None:
    """At a learning rate of zero every version of the weights is the same, so that staleness hides
    no wrong transfer.
    """
    run = two_steps(tmp_path, *SEPARATE, "actor_rollout_ref.actor.optim.lr=0")
    assert all(
        metrics["training/rollout_probs_diff_max"] < 1e-5 for metrics in run.metrics.values()
    )
    assert all(
        metrics["agentflow/objective_mass"] == pytest.approx(1.0)
        for metrics in run.metrics.values()
    )
    assert all(metrics["actor/grad_norm"] > 0 for metrics in run.metrics.values())


def test_an_update_longer_than_the_budget_ends_no_trajectory(tmp_path, monkeypatch) -> None:
    """colocate_async parks requests through the whole update. Three batches more than the step
    needs are under way when the first begins.
    """
    budget_s, update_s = 90, 120
    monkeypatch.setenv("VERL_USE_EXTERNAL_MODULES", "tests.e2e.slow_update")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv(slow_update.SECONDS, str(update_s))
    run = two_steps(
        tmp_path,
        "trainer.v1.trainer_mode=agentflow_colocate_async",
        "trainer.v1.colocate_async.num_warmup_batches=3",
        "actor_rollout_ref.rollout.max_num_seqs=2",  # so that they do not all end at once
        f"agentflow.time_budget_s={budget_s}",
    )
    assert all(metrics["agentflow/outcome/out_of_time"] == 0 for metrics in run.metrics.values())
    timings = [scored.trajectory.timings for scored in logged(run)]
    paused = [part["paused"] for part in timings if "paused" in part]
    print(f"{len(paused)} of {len(timings)} trajectories were paused, up to {max(paused):.0f} s")
    assert max(paused) > budget_s
    assert all(part["total"] - part.get("paused", 0) < budget_s for part in timings)


def test_two_ranks_train_the_same_number_of_steps_on_all_rows(tmp_path: Path) -> None:
    run = two_steps(tmp_path, *TWO_RANKS)
    for metrics in run.metrics.values():
        assert metrics["training/rollout_probs_diff_max"] < 1e-5
        assert metrics["agentflow/objective_mass"] == pytest.approx(1.0)
        assert metrics["agentflow/optimizer_steps"] == 1
        assert metrics["actor/grad_norm"] > 0
