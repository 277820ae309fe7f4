"""One budget, handed down: work that runs past it is cancelled, not abandoned."""

from __future__ import annotations

import asyncio
import time

import pytest

from agentflow_verl.core.clock import Clock
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import OutOfTime


class Work:
    """Awaitable work that notes how it ended."""

    def __init__(self, seconds: float | None = None):
        self.seconds = seconds
        self.ended = "not started"

    async def __call__(self) -> str:
        self.ended = "running"
        try:
            await (asyncio.Event().wait() if self.seconds is None else asyncio.sleep(self.seconds))
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # cleaning up takes a moment, and is waited for
            self.ended = "cancelled"
            raise
        self.ended = "done"
        return "result"


async def test_work_in_time_gives_its_result():
    assert await Deadline.after(5).run(Work(0)(), "work") == "result"


async def test_work_past_the_deadline_is_cancelled_and_named():
    work = Work()
    with pytest.raises(OutOfTime, match="the work ran past its deadline"):
        await Deadline.after(0.02).run(work(), "the work")
    assert work.ended == "cancelled"


async def test_nothing_starts_after_the_deadline():
    work = Work()
    with pytest.raises(OutOfTime):
        await Deadline.after(-1).run(work(), "work")
    assert work.ended == "not started"


async def test_the_works_own_timeout_is_not_ours():
    async def impatient() -> None:
        raise asyncio.TimeoutError("mine")

    with pytest.raises(asyncio.TimeoutError, match="mine"):
        await Deadline.after(5).run(impatient(), "work")


async def test_the_works_own_faults_pass_through():
    async def broken() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await Deadline.after(5).run(broken(), "work")


async def test_cancelling_the_caller_cancels_the_work():
    work = Work()
    task = asyncio.create_task(Deadline.after(60).run(work(), "work"))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.ended == "cancelled"


async def test_deadlines_nest_and_the_inner_one_is_out_of_time_too():
    outer, work = Deadline.after(60), Work()
    with pytest.raises(OutOfTime, match="inner"):
        await outer.run(outer.within(0.02).run(work(), "inner"), "outer")
    assert work.ended == "cancelled"


def test_within_never_extends():
    deadline = Deadline.after(10)
    assert deadline.within(100) == deadline
    assert 0.9 <= deadline.within(1).remaining() <= 1
    assert deadline.within(-1).remaining() == 0


def test_remaining_is_never_negative():
    assert Deadline.after(-5).remaining() == 0
    assert 4 < Deadline.after(5).remaining() <= 5


async def test_a_paused_clock_keeps_work_waiting_beyond_its_budget():
    deadline = Deadline.after(0.2)
    loop = asyncio.get_running_loop()
    deadline.clock.pause("weights")
    loop.call_later(0.6, deadline.clock.resume, "weights")
    assert await deadline.run(asyncio.sleep(0.7, "result"), "work") == "result"
    assert deadline.clock.paused_s > 0.5


async def test_after_the_pause_the_rest_of_the_budget_counts():
    deadline = Deadline.after(0.2)
    started = time.monotonic()
    loop = asyncio.get_running_loop()
    deadline.clock.pause("weights")
    loop.call_later(0.4, deadline.clock.resume, "weights")
    with pytest.raises(OutOfTime):
        await deadline.run(asyncio.Event().wait(), "work")
    assert time.monotonic() - started >= 0.6


async def test_a_pause_before_the_work_is_in_no_budget():
    deadline = Deadline.after(60)
    deadline.clock.pause("weights")
    left = deadline.remaining()
    await asyncio.sleep(0.05)
    assert deadline.remaining() == deadline.within(100).remaining() == left
    assert deadline.within(1).clock is deadline.clock


def test_pauses_that_overlap_count_once():
    seconds = [0.0]
    clock = Clock(lambda: seconds[0])
    for at, change, reason in (
        (1, clock.pause, "first"),
        (2, clock.pause, "second"),
        (3, clock.resume, "first"),
        (5, clock.resume, "second"),
        (6, clock.resume, "second"),
    ):
        seconds[0] = at
        change(reason)
    assert (clock.paused_s, clock.now()) == (4, 2)


async def test_work_of_a_cancelled_caller_is_cancelled():
    work = Work()
    caller = asyncio.create_task(Deadline.after(60).run(work(), "work"))
    await asyncio.sleep(0.01)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert work.ended == "cancelled"
