"""The base model is one override: a step of the real trainer on random checkpoints of three
families.
"""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path

import pytest

from tests.e2e.models import save_random
from tests.e2e.runs import assert_nothing_is_left, logged, train, write_questions


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "mode"),
    [
        ("qwen2", "agentflow_colocate_async"),
        ("gemma", "agentflow_sync"),
        ("llama", "agentflow_sync"),
    ],
)
def test_swapping_the_base_model_is_one_override_and_sigterm_ends_a_run_cleanly(
    family: str, mode: str, tmp_path: Path
) -> None:
    """With every module on the policy, so that there is one engine to start."""
    write_questions(tmp_path / "data")
    model = save_random(family, tmp_path / "model")
    before = _digest(model)

    def end_after_a_step(pid: int) -> None:
        if any(log.read_text() for log in (tmp_path / "run").glob("metrics-*.jsonl")):
            os.kill(pid, signal.SIGTERM)

    on_policy = [
        f"agentflow.engines.{module}=policy"
        for module in ("analyst", "executor", "verifier", "generator")
    ]
    overrides = ("trainer.total_training_steps=9", f"trainer.v1.trainer_mode={mode}", *on_policy)
    run = train(model, tmp_path / "data", tmp_path / "run", *overrides, during=end_after_a_step)
    assert run.code != 0
    assert 1 <= len(run.metrics) < 9, run.output[-4000:]
    assert run.metrics[1]["training/rollout_probs_diff_max"] < 1e-5
    assert run.metrics[1]["actor/grad_norm"] > 0
    replies = [reply for scored in logged(run) for reply in scored.trajectory.all_replies()]
    assert replies and {reply.engine for reply in replies} == {"policy"}
    assert _digest(model) == before
    assert_nothing_is_left(run)


def _digest(folder: Path) -> str:
    return hashlib.sha256(
        b"".join(file.read_bytes() for file in sorted(folder.glob("*.safetensors")))
    ).hexdigest()
