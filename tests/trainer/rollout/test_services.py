"""The trajectory log: what is written is what is read back, line by line."""

from __future__ import annotations

from types import SimpleNamespace

from agentflow_verl.trainer.rollout.frozen_base import context_length
from agentflow_verl.trajectories.log import ScoredTrajectory, TrajectoryLog, read_log
from agentflow_verl.trajectories.records import Outcome, Trajectory


def scored(step: int, split: str = "train", query: str = "q") -> ScoredTrajectory:
    trajectory = Trajectory(id=f"g{step}_0", query=query, outcome=Outcome.ANSWERED)
    return ScoredTrajectory(
        step=step,
        split=split,
        group=f"g{step}",
        session=0,
        data_source="d",
        reward=1.0,
        trajectory=trajectory,
    )


def test_what_is_written_is_read_back_in_the_order_of_steps(tmp_path):
    log = TrajectoryLog(tmp_path)
    for step in (10, 2, 2, 1):
        log.write(scored(step))
    log.write(scored(2, split="val"))
    assert [each.step for each in read_log(tmp_path)] == [1, 2, 2, 10]
    assert read_log(tmp_path, step=10) == [scored(10)]
    assert read_log(tmp_path, split="val") == [scored(2, split="val")]


def test_line_separators_inside_text_do_not_end_a_record(tmp_path):
    """U+2028, U+2029, U+0085 and form feeds are line ends to Python, not to JSON lines."""
    odd = scored(1, query="a\u2028b\u2029c\x85d\x0be\x0cf\r\ng\nh")
    TrajectoryLog(tmp_path).write(odd)
    TrajectoryLog(tmp_path).write(scored(1))
    assert read_log(tmp_path) == [odd, scored(1)]


def test_no_log_is_no_trajectories(tmp_path):
    assert read_log(tmp_path / "none") == []


def test_the_frozen_base_has_a_context_where_verl_configures_none():
    """verl's max_model_len is null by default; a prompt limit must come out all the same."""
    rollout = SimpleNamespace(max_model_len=None, prompt_length=4096, response_length=512)
    assert context_length(rollout, 1024) == 4096 + 1024
    rollout.max_model_len = 2048
    assert context_length(rollout, 1024) == 2048
