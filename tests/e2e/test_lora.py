"""With LoRA one vLLM server is the policy and, the adapter off, the frozen base: a real run on the
CPU.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.e2e.runs import (
    BASE,
    assert_frozen_replies_are_the_checkpoints,
    assert_nothing_is_left,
    logged,
    train,
    write_questions,
)

STEPS = 3


@pytest.mark.slow
def test_frozen_modules_need_no_second_server_and_answer_as_the_checkpoint_while_the_adapter_learns(
    tmp_path: Path,
) -> None:
    engines: Counter[int] = Counter()

    def count_engines(pid: int) -> None:
        processes = psutil.Process(pid).children(recursive=True)
        engines[
            sum("EngineCore" in name for process in processes if (name := _title(process)))
        ] += 1

    write_questions(tmp_path / "data")
    adapter = (
        "actor_rollout_ref.model.lora_rank=8",
        "actor_rollout_ref.model.lora_alpha=16",
        "actor_rollout_ref.actor.optim.lr=1e-2",
    )
    kept = f"trainer.rollout_data_dir={tmp_path}/run/rows"
    run = train(
        BASE,
        tmp_path / "data",
        tmp_path / "run",
        *adapter,
        kept,
        f"trainer.total_training_steps={STEPS}",
        during=count_engines,
    )
    assert run.code == 0, run.output[-4000:]
    assert max(engines) == 1
    replies = [reply for scored in logged(run) for reply in scored.trajectory.all_replies()]
    assert {reply.engine for reply in replies} == {"policy", "base"}
    assert_frozen_replies_are_the_checkpoints(run, STEPS)
    assert all(metrics["actor/grad_norm"] > 0 for metrics in run.metrics.values())
    assert all(
        metrics["training/rollout_probs_diff_max"] < 1e-5 for metrics in run.metrics.values()
    ), "the rollout has the newest adapter"
    assert_nothing_is_left(run)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
