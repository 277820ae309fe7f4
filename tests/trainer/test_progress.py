"""What a user sees of a run: one line a step, or one line that is updated where there is a
terminal.
"""

from __future__ import annotations

import pytest

from agentflow_verl.trainer import progress
from agentflow_verl.trainer.progress import TERMINAL, Progress, duration, note_terminal

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
def clock(monkeypatch):
    monkeypatch.delenv(TERMINAL, raising=False)
    return Clock()


def test_a_log_gets_one_line_a_step(clock, capsys):
    shown = Progress(9, clock)
    shown.show(3, METRICS)
    line = (
        "agentflow: step 3/9 | success 41.2% | reward 0.500 | answered 75%, out_of_turns 25% | 20.0"
        " s a step | 2:00 left\n"
    )
    assert capsys.readouterr().out == line


def test_time_left_is_by_the_mean_of_this_runs_steps_validation_included(clock):
    shown = Progress(10, clock)
    shown.show(6, METRICS)
    clock.now += 40.0
    shown.show(7, METRICS)
    assert "30.0 s a step | 1:30 left" in shown.line(7, METRICS)


def test_the_last_step_leaves_nothing(clock, capsys):
    Progress(1, clock).show(1, METRICS)
    assert "step 1/1" in (line := capsys.readouterr().out) and "0:00 left" in line


def test_metrics_that_another_estimator_does_not_log_are_left_out(clock, capsys):
    Progress(2, clock).show(1, {"timing_s/step": 5.0})
    assert capsys.readouterr().out == "agentflow: step 1/2 | 5.0 s a step | 0:05 left\n"


def test_a_terminal_gets_rays_bar_from_the_resumed_step_on(clock, capsys, monkeypatch):
    monkeypatch.setenv(TERMINAL, "1")
    states = []
    monkeypatch.setattr(
        progress.tqdm_ray.tqdm,
        "_dump_state",
        lambda bar, force_flush=False: states.append((bar.n, bar._desc)),
    )
    shown = Progress(9, clock)
    shown.show(5, METRICS)
    shown.show(6, METRICS)
    shown.close()
    assert [n for n, _ in states if n] == [5, 5, 6, 6, 6]
    assert states[-1][1].startswith("step 6/9 | success 41.2%")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("terminal", "noted"), [(True, "1"), (False, "0")])
def test_the_launcher_notes_whether_there_is_a_terminal(terminal, noted, monkeypatch):
    monkeypatch.setenv(TERMINAL, "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    note_terminal()
    assert progress.os.environ[TERMINAL] == noted


def test_durations_read_as_clocks():
    assert [duration(seconds) for seconds in (0.4, 59.6, 3599, 3600, 90061)] == [
        "0:00",
        "1:00",
        "59:59",
        "1:00:00",
        "25:01:01",
    ]
