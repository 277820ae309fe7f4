"""The trajectory log: what is written is what is read back, line by line."""

from __future__ import annotations

import logging

import pytest

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.trajectories.log import (
    ScoredTrajectory,
    TrajectoryLog,
    read_log,
    read_trajectories,
)
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


def test_broken_lines_cost_themselves_and_a_line_that_is_being_written_nothing(tmp_path, caplog):
    TrajectoryLog(tmp_path).write(scored(1))
    (path,) = tmp_path.rglob("*.jsonl")
    good = path.read_bytes()
    surrogate = good.replace(b'"q"', rb'"\ud800"')
    path.write_bytes(good + b"{broken\n\n" + surrogate + b"\xff\n" + good + good[:-9])
    with caplog.at_level(logging.WARNING):
        assert read_log(tmp_path) == [scored(1)] * 2
        assert read_trajectories(path) == [scored(1).trajectory] * 2
    assert [record.getMessage() for record in caplog.records] == [caplog.messages[0]] * 2
    assert caplog.messages[0].startswith(f"{path}: 4 of its lines left out; line 5: ")
    assert path.read_bytes().endswith(good[:-9]), "what is read is not changed"
    path.write_bytes(good + good[:-1])
    assert read_log(tmp_path) == [scored(1)] * 2, "a line break is no part of a record"


def test_a_file_of_something_else_is_refused_by_its_first_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "q"}\n')
    with pytest.raises(
        ConfigError, match="rows.jsonl is not a file of trajectories: line 1: step: "
    ):
        read_trajectories(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match="rows.jsonl cannot be read: not a regular file"):
        read_trajectories(path)
