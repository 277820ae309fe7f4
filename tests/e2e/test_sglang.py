"""The real trainer with policy and frozen base on SGLang, and no GPU. One run of two steps for
every change; modes, adapters and what dies: ``pytest tests/e2e/test_sglang.py -m slow``.
"""

from __future__ import annotations

import importlib.util
import signal
from pathlib import Path

import psutil
import pytest

from tests.e2e.runs import (
    BASE,
    Run,
    assert_frozen_replies_are_the_checkpoints,
    assert_nothing_is_left,
    logged,
    train,
)
from tests.e2e.test_modes import SEPARATE, TWO_RANKS

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sglang") is None,
    reason="SGLang is not installed: bash install.sh FOLDER cpu-sglang",
)
STEPS = 2


def two_steps(data: Path, folder: Path, *overrides: str) -> Run:
    run = train(
        BASE,
        data,
        folder,
        "actor_rollout_ref.rollout.name=sglang",
        f"trainer.total_training_steps={STEPS}",
        f"trainer.rollout_data_dir={folder}/rows",
        *overrides,
        timeout=900,
    )
    assert run.code == 0, run.output[-4000:]
    assert sorted(run.metrics) == [1, 2]
    for metrics in run.metrics.values():
        assert metrics["agentflow/objective_mass"] == pytest.approx(1.0)
        assert metrics["actor/grad_norm"] > 0
    return run


def largest_difference(run: Run) -> float:
    worst = max(metrics["training/rollout_probs_diff_max"] for metrics in run.metrics.values())
    print(f"largest difference of rollout and actor probabilities: {worst:.2e}")
    return worst


# ---- for every change ----


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return two_steps(data, tmp_path_factory.mktemp("run"))


def test_rollout_and_actor_agree_before_and_after_an_update(run: Run) -> None:
    assert largest_difference(run) < 1e-5


def test_the_frozen_base_is_the_checkpoint(run: Run) -> None:
    """What its SGLang server said after an update of the policy is what transformers says, to the
    token.
    """
    assert_frozen_replies_are_the_checkpoints(run, STEPS)


def test_cached_tokens_of_both_servers_are_told(run: Run) -> None:
    for metrics in run.metrics.values():
        for engine in ("policy", "base"):
            assert 0 < metrics[f"agentflow/cached_token_share/{engine}"] < 1


def test_nothing_of_the_run_is_left(run: Run) -> None:
    assert run.shared_memory
    assert_nothing_is_left(run)


# ---- modes ----


@pytest.mark.slow
def test_separate_async(data: Path, tmp_path: Path) -> None:
    """At a learning rate of zero, so that staleness hides no wrong transfer."""
    run = two_steps(data, tmp_path, *SEPARATE, "actor_rollout_ref.actor.optim.lr=0")
    assert largest_difference(run) < 1e-5


@pytest.mark.slow
def test_colocate_async(data: Path, tmp_path: Path) -> None:
    run = two_steps(
        data,
        tmp_path,
        "trainer.v1.trainer_mode=agentflow_colocate_async",
        "actor_rollout_ref.actor.optim.lr=0",
    )
    assert largest_difference(run) < 1e-5


@pytest.mark.slow
def test_two_ranks(data: Path, tmp_path: Path) -> None:
    assert largest_difference(two_steps(data, tmp_path, *TWO_RANKS)) < 1e-5


@pytest.mark.slow
def test_an_adapter_that_is_merged(data: Path, tmp_path: Path) -> None:
    run = two_steps(
        data,
        tmp_path,
        "actor_rollout_ref.model.lora_rank=8",
        "actor_rollout_ref.model.lora.merge=true",
    )
    # verl sends merged weights in bf16, whatever the rollout's type (fsdp/transformer_impl.py).
    assert largest_difference(run) < 0.05


# ---- faults ----


@pytest.mark.slow
def test_a_run_whose_servers_sleep_survives_trajectories_that_run_out_of_time(
    data: Path, tmp_path: Path
) -> None:
    """Their requests are cancelled, and a sync run puts the servers to sleep right after.

    Every plan takes longer than its trajectory has, so that no tool is waited for.
    """
    run = train(
        BASE,
        data,
        tmp_path,
        "actor_rollout_ref.rollout.name=sglang",
        f"trainer.total_training_steps={STEPS}",
        "actor_rollout_ref.rollout.free_cache_engine=true",
        "agentflow.time_budget_s=1.0",
        "data.max_prompt_length=400",
        "data.max_response_length=600",
        "actor_rollout_ref.rollout.ignore_eos=true",
        timeout=900,
    )
    assert run.code == 0, run.output[-4000:]
    assert sorted(run.metrics) == [1, 2]
    outcomes = {scored.trajectory.outcome.value for scored in logged(run)}
    assert "out_of_time" in outcomes


@pytest.mark.slow
def test_a_frozen_server_that_dies_ends_the_run_with_one_reason(data: Path, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_once(pid: int) -> None:
        if killed or not list((tmp_path / "trajectories" / "train").glob("step_*/*.jsonl")):
            return
        servers = [
            child
            for child in psutil.Process(pid).children(recursive=True)
            if " ".join(child.cmdline()).startswith("ray::AbortingSGLang")
        ]
        newest = max(servers, key=lambda process: process.create_time())
        newest.send_signal(signal.SIGKILL)
        killed.append(newest.pid)

    run = train(
        BASE,
        data,
        tmp_path,
        "actor_rollout_ref.rollout.name=sglang",
        "trainer.total_training_steps=9",
        during=kill_once,
        timeout=900,
    )
    assert run.code not in (0, -signal.SIGKILL), run.output[-4000:]
    assert killed and "the frozen base server" in run.output, run.output[-4000:]
    assert_nothing_is_left(run)
