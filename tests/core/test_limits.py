"""The rate limit: evenly spaced, bounded by deadlines."""

from __future__ import annotations

import asyncio

import pytest

from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import OutOfTime
from agentflow_verl.core.limits import Pace
from agentflow_verl.tools.toolbox import ToolBox
from tests.tools.servers import soon


async def test_turns_come_at_the_configured_rate_and_the_first_at_once():
    loop, pace, turns = asyncio.get_running_loop(), Pace(50), []

    async def one() -> None:
        await pace.turn(soon(), "call")
        turns.append(loop.time())

    started = loop.time()
    await asyncio.gather(*(one() for _ in range(11)))
    assert turns[0] - started < 0.02
    assert all(turn - started >= number / 50 - 0.005 for number, turn in enumerate(turns))


async def test_a_pause_is_not_saved_up():
    loop, pace = asyncio.get_running_loop(), Pace(20)
    await pace.turn(soon(), "call")
    await asyncio.sleep(0.3)
    started = loop.time()
    for _ in range(3):
        await pace.turn(soon(), "call")
    assert loop.time() - started >= 0.095


async def test_a_turn_after_the_deadline_is_refused_at_once_and_not_taken():
    loop, pace = asyncio.get_running_loop(), Pace(2)
    await pace.turn(soon(), "call")
    for _ in range(100):
        with pytest.raises(OutOfTime, match="call: the rate limit"):
            await pace.turn(Deadline.after(0.1), "call")
    started = loop.time()
    await pace.turn(soon(), "call")
    assert loop.time() - started <= 0.6


async def test_without_a_rate_nobody_waits():
    pace = Pace(None)
    for _ in range(1000):
        await pace.turn(Deadline.after(0), "call")


async def test_every_request_takes_a_turn_retries_included(faulty):
    loop = asyncio.get_running_loop()
    async with await ToolBox.open(
        [ToolConfig(name="paced", urls=(faulty.url,), calls_per_s=20)]
    ) as tools:
        started = loop.time()
        await asyncio.gather(*(tools.call("echo", {}, soon()) for _ in range(9)))
        assert loop.time() - started >= 0.395
    assert faulty.calls == 9
