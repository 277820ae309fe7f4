"""What is killed, and how the run goes on: ``pytest tests/e2e/test_recovery.py -m slow``. One to
two minutes a run, four runs.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from torchdata.stateful_dataloader import StatefulDataLoader
from verl.trainer.ppo.utils import create_rl_sampler

from agentflow_verl.trainer.resilience.log_rollback import SET_ASIDE
from agentflow_verl.trajectories.log import read_log
from tests.config.test_hydra import composed, hydra  # noqa: F401 - a fixture, used by name
from tests.e2e.models import save_random
from tests.e2e.runs import train, write_questions

pytestmark = pytest.mark.slow

QUESTIONS, SEED, STEPS, SAVED = 16, 3, 4, 2


def kill_when(
    logged_step: int, find: Callable[[psutil.Process], psutil.Process], folder: Path
) -> Callable[[int], None]:
    """Kill what ``find`` finds once a trajectory of ``logged_step`` is in the log; once."""
    killed: list[int] = []

    def look(pid: int) -> None:
        if not killed and list(
            (folder / "trajectories" / "train" / f"step_{logged_step:06d}").glob("*.jsonl")
        ):
            process = find(psutil.Process(pid))
            process.send_signal(signal.SIGKILL)
            killed.append(process.pid)

    return look


def newest(name: str) -> Callable[[psutil.Process], psutil.Process]:
    """The newest process below the driver that is called so. The frozen base's server starts after
    the policy's.
    """

    def find(driver: psutil.Process) -> psutil.Process:
        found = [
            child
            for child in driver.children(recursive=True)
            if " ".join(child.cmdline()).startswith(name)
        ]
        return max(found, key=lambda process: process.create_time())

    return find


def test_a_driver_that_is_killed_goes_on_from_its_checkpoint_without_a_step_or_a_question_twice(
    tmp_path: Path,
    hydra: None,  # noqa: F811
) -> None:
    """The questions of both runs together, in order, are those that verl's loader gives a run
    without a break.
    """
    write_questions(tmp_path / "data", QUESTIONS)
    model = save_random("qwen2", tmp_path / "model")
    folder = tmp_path / "run"
    overrides = (
        f"trainer.total_training_steps={STEPS}",
        f"trainer.save_freq={SAVED}",
        f"data.seed={SEED}",
    )
    first = train(
        model,
        tmp_path / "data",
        folder,
        *overrides,
        during=kill_when(SAVED + 1, lambda driver: driver, folder),
        timeout=900,
    )
    assert first.code == -signal.SIGKILL
    assert (folder / "latest_checkpointed_iteration.txt").read_text() == str(SAVED)

    second = train(model, tmp_path / "data", folder, *overrides, timeout=900)
    assert second.code == 0, second.output[-4000:]
    assert sorted(second.metrics) == [3, 4]
    assert f"resumed from the checkpoint of step {SAVED}" in second.output
    assert (
        "agentflow: step 3/4 | success" in second.output
        and "agentflow: step 4/4 | success" in second.output
    )
    assert {scored.step for scored in read_log(folder / "trajectories" / SET_ASIDE / "1")} == {
        SAVED + 1
    }

    log = read_log(folder / "trajectories")
    places = [(scored.step, scored.group, scored.session) for scored in log]
    assert (
        len(places) == len(set(places)) == STEPS * 2 * 3
    )  # steps, questions a step, trajectories a question
    sampler = create_rl_sampler(composed(f"data.seed={SEED}").data, range(QUESTIONS))
    order = iter(
        StatefulDataLoader(range(QUESTIONS), batch_size=2, collate_fn=list, sampler=sampler)
    )
    for step in range(1, STEPS + 1):
        assert {int(scored.ground_truth) - 2 for scored in log if scored.step == step} == set(
            next(order)
        )


@pytest.mark.parametrize(
    ("process", "said"),
    [
        ("ray::FlowWorker", "the agent-loop worker"),
        ("ray::CpuVllmServer", "the frozen base server"),
    ],
)
def test_a_part_that_dies_ends_the_run_with_one_reason(
    process: str, said: str, tmp_path: Path
) -> None:
    write_questions(tmp_path / "data", QUESTIONS)
    model = save_random("qwen2", tmp_path / "model")
    folder = tmp_path / "run"
    run = train(
        model,
        tmp_path / "data",
        folder,
        "trainer.total_training_steps=9",
        during=kill_when(1, newest(process), folder),
        timeout=900,
    )
    assert run.code not in (0, -signal.SIGKILL), run.output[-4000:]
    assert said in run.output and "it rerun the same command to resume" in run.output, run.output[
        -4000:
    ]
    assert os.listdir(folder / "trajectories" / "train")
