"""What a user sees of a run: one line per step."""

from __future__ import annotations

import pytest

from agentflow_verl.trainer.progress import Progress, duration

METRICS = {
    "timing_s/step": 20.0,
    "agentflow/success": 0.4125,
    "agentflow/reward": 0.5,
    "agentflow/outcome/answered": 0.75,
    "agentflow/outcome/out_of_turns": 0.25,
    "agentflow/outcome/infra_error": 0.0,
}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_each_step_is_one_line(clock, capsys):
    shown = Progress(9, clock)
    shown.show(3, METRICS)
    line = (
        "agentflow: step 3/9 | success 41.2% | reward 0.500 | answered 75%, out_of_turns 25% | 20.0"
        " s per step | 2:00 left\n"
    )
    assert capsys.readouterr().out == line


def test_time_left_is_by_the_mean_of_this_runs_steps_validation_included(clock):
    shown = Progress(10, clock)
    shown.show(6, METRICS)
    clock.now += 40.0
    shown.show(7, METRICS)
    assert "30.0 s per step | 1:30 left" in shown.line(7, METRICS)


def test_the_last_step_leaves_nothing(clock, capsys):
    Progress(1, clock).show(1, METRICS)
    assert "step 1/1" in (line := capsys.readouterr().out) and "0:00 left" in line


def test_metrics_that_another_estimator_does_not_log_are_left_out(clock, capsys):
    Progress(2, clock).show(1, {"timing_s/step": 5.0})
    assert capsys.readouterr().out == "agentflow: step 1/2 | 5.0 s per step | 0:05 left\n"


def test_a_validation_stands_in_the_line_of_its_step(clock, capsys):
    validated = {
        "val-core/maths/reward/mean@1": 0.5,
        "val-core/qa/reward/mean@1": 0.7,
        "val-aux/qa/reward/std@1": 9.0,
    }
    Progress(2, clock).show(1, {**METRICS, **validated})
    assert "| validation reward 0.600 |" in capsys.readouterr().out


def test_durations_read_as_clocks():
    assert [duration(seconds) for seconds in (0.4, 59.6, 3599, 3600, 90061)] == [
        "0:00",
        "1:00",
        "59:59",
        "1:00:00",
        "25:01:01",
    ]
