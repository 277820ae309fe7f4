"""Whose fault it is that a call ended at its deadline."""

from __future__ import annotations

import asyncio

import pytest

from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import InfraError, OutOfTime
from agentflow_verl.core.retry import RetryPolicy
from agentflow_verl.core.server_errors import ServerFault
from agentflow_verl.core.server_pool import ServerPool

URL = "http://server"


async def answered_late(url: str) -> str:
    await asyncio.sleep(0.4)
    raise OutOfTime("answered after the deadline", answered=True)


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


async def test_an_answer_after_the_deadline_is_no_silence_of_the_server():
    pool = ServerPool([URL], 1, RetryPolicy())
    with pytest.raises(OutOfTime, match="answered"):
        await pool.call("a call", answered_late, Deadline.after(0.1))


async def test_the_queue_behind_a_server_that_hangs_counts_as_its_silence():
    pool = ServerPool([URL], 1, RetryPolicy(attempts=1))

    async def answer(url: str) -> str:
        await asyncio.sleep(0.05)
        return url

    async def hang(url: str) -> str:
        await asyncio.sleep(0.5)
        raise OutOfTime("no answer", waited_s=0.5)

    async def no_time(url: str) -> str:
        raise OutOfTime("no answer", waited_s=1e-3)

    assert await pool.call("a call", answer, Deadline.after(60)) == (URL, 1)
    first = asyncio.create_task(pool.call("first", hang, Deadline.after(0.5)))
    await asyncio.sleep(0)
    with pytest.raises(InfraError, match="no answer"):
        await pool.call("second", no_time, Deadline.after(60))
    with pytest.raises(InfraError, match="no answer"):
        await first


async def test_a_late_answer_after_a_fault_of_the_connection_is_the_calls_own_end():
    pool, faults = ServerPool([URL], 1, RetryPolicy(first_pause_s=0.01)), [ServerFault("reset")]

    async def send(url: str) -> str:
        if faults:
            raise faults.pop()
        return await answered_late(url)

    with pytest.raises(OutOfTime, match="answered"):
        await pool.call("a call", send, Deadline.after(60))


async def test_the_queue_behind_programs_that_overrun_is_no_hang():
    pool = ServerPool([URL], 1, RetryPolicy(attempts=1))
    with pytest.raises(OutOfTime):
        await pool.call("the first", answered_late, Deadline.after(0.3))
    calls = [pool.call("a call", answered_late, Deadline.after(0.3)) for _ in range(3)]
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(end) for end in ended] == [OutOfTime] * 3
