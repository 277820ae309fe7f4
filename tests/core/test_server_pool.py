"""Whose fault it is that a call ended at its deadline."""

from __future__ import annotations

import asyncio

import pytest

from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import OutOfTime
from agentflow_verl.core.retry import RetryPolicy
from agentflow_verl.core.server_pool import ServerPool

URL = "http://server"


async def test_a_pause_of_the_trainer_is_no_silence_of_the_server():
    pool, deadline = ServerPool([URL], 1, RetryPolicy()), Deadline.after(60.0)

    async def answer(url: str) -> str:
        await asyncio.sleep(0.1)
        return url

    async def late(url: str) -> str:
        deadline.clock.pause("weights")
        await asyncio.sleep(1.0)
        deadline.clock.resume("weights")
        raise OutOfTime("too late", waited_s=0.05)

    assert await pool.call("a call", answer, deadline) == (URL, 1)
    with pytest.raises(OutOfTime, match="too late"):
        await pool.call("a call", late, deadline)
