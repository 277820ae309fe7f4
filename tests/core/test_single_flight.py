"""Equal calls as one: who shares an answer, and whose failure is whose."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

import pytest

from agentflow_verl.core import single_flight
from agentflow_verl.core.clock import Clock
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import InfraError, OutOfTime
from agentflow_verl.core.single_flight import SingleFlight

LONG = 30.0


class Server:
    """Answers after ``seconds``, or fails as often as ``faults`` says."""

    def __init__(self, seconds: float = 0.02, faults: int = 0, fault: type = InfraError):
        self.seconds, self.faults, self.fault, self.asked = seconds, faults, fault, 0

    async def answer(self) -> str:
        self.asked += 1
        number = self.asked
        await asyncio.sleep(self.seconds)
        if number <= self.faults:
            raise self.fault(f"fault {number}")
        return f"answer {number}"


async def test_equal_calls_at_once_are_one():
    server, calls = Server(), SingleFlight[str](8)
    asked = [calls.ask("a", server.answer, Deadline.after(LONG)) for _ in range(5)]
    found = await asyncio.gather(*asked)
    assert server.asked == 1
    assert [answer for answer, _ in found] == ["answer 1"] * 5
    assert sorted(shared for _, shared in found) == [False, True, True, True, True]


async def test_a_later_call_gets_what_was_kept_and_another_key_does_not():
    server, calls = Server(), SingleFlight[str](8)
    assert await calls.ask("a", server.answer, Deadline.after(LONG)) == ("answer 1", False)
    assert await calls.ask("a", server.answer, Deadline.after(LONG)) == ("answer 1", True)
    assert await calls.ask("b", server.answer, Deadline.after(LONG)) == ("answer 2", False)


async def test_memory_is_bounded_and_keeps_what_was_asked_for_last():
    server, calls = Server(0.0), SingleFlight[str](2)
    for key in "abac":
        await calls.ask(key, server.answer, Deadline.after(LONG))
    assert (await calls.ask("a", server.answer, Deadline.after(LONG)))[1]
    assert not (await calls.ask("b", server.answer, Deadline.after(LONG)))[1]
    nothing = SingleFlight[str](0)
    for _ in range(2):
        assert not (await nothing.ask("a", server.answer, Deadline.after(LONG)))[1]


async def test_a_failure_is_not_shared_who_waited_asks_again():
    server, calls = Server(faults=1), SingleFlight[str](8)
    asked = [calls.ask("a", server.answer, Deadline.after(LONG)) for _ in range(3)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(found[0], InfraError)
    assert all(not isinstance(other, Exception) for other in found[1:])
    assert server.asked == 3


async def test_the_first_callers_end_is_its_own():
    server, calls = Server(0.2), SingleFlight[str](8)
    first = asyncio.ensure_future(calls.ask("a", server.answer, Deadline.after(LONG)))
    await asyncio.sleep(0.01)
    second = asyncio.ensure_future(calls.ask("a", server.answer, Deadline.after(LONG)))
    await asyncio.sleep(0.01)
    first.cancel()
    assert await second == ("answer 2", False)
    assert first.cancelled()


async def test_a_followers_end_stops_nobody():
    server, calls = Server(0.2), SingleFlight[str](8)
    first = asyncio.ensure_future(calls.ask("a", server.answer, Deadline.after(LONG)))
    await asyncio.sleep(0.01)
    second = asyncio.ensure_future(calls.ask("a", server.answer, Deadline.after(LONG)))
    await asyncio.sleep(0.01)
    second.cancel()
    assert await first == ("answer 1", False)


async def past_the_deadline() -> str:
    raise OutOfTime("called after the deadline")


async def test_without_time_to_ask_again_the_servers_fault_is_the_reason():
    """Trajectories of a group began together, so their deadlines pass together."""
    server, calls = Server(0.15, faults=1), SingleFlight[str](8)
    first = asyncio.ensure_future(calls.ask("a", server.answer, Deadline.after(LONG)))
    await asyncio.sleep(0.01)
    with pytest.raises(InfraError, match="fault 1"):
        await calls.ask("a", past_the_deadline, Deadline.after(0.05))
    with pytest.raises(InfraError, match="fault 1"):
        await first


async def too_late() -> str:
    raise OutOfTime("answered after the deadline", answered=True)


async def test_a_server_that_answered_is_no_fault_whatever_ended_the_first_call():
    server, calls = Server(0.05, faults=1), SingleFlight[str](8)
    first = asyncio.ensure_future(calls.ask("a", server.answer, Deadline.after(LONG)))
    await asyncio.sleep(0.01)
    with pytest.raises(OutOfTime, match="answered after"):
        await calls.ask("a", too_late, Deadline.after(LONG))
    with pytest.raises(InfraError):
        await first


@pytest.mark.parametrize("is_hang", [True, False])
async def test_whose_fault_a_wait_without_an_answer_was_is_the_servers_to_say(is_hang, monkeypatch):
    """The first call has more time left, so how it ends is not known yet."""
    monkeypatch.setattr(single_flight, "GRACE_S", 0.01)
    asked = []

    def judge(waited_s: float) -> bool:
        asked.append(waited_s)
        return is_hang

    server, calls = Server(5.0), SingleFlight[str](8, is_hang=judge)
    first = asyncio.ensure_future(calls.ask("a", server.answer, Deadline.after(LONG)))
    await asyncio.sleep(0.01)
    with pytest.raises(InfraError if is_hang else OutOfTime):
        await calls.ask("a", past_the_deadline, Deadline.after(0.1))
    assert asked == [pytest.approx(0.1, abs=0.08)]
    first.cancel()


async def test_an_answer_that_comes_too_late_for_a_follower_is_no_fault():
    server, calls = Server(0.15), SingleFlight[str](8)
    first = asyncio.ensure_future(calls.ask("a", server.answer, Deadline.after(LONG)))
    await asyncio.sleep(0.01)
    with pytest.raises(OutOfTime):
        await calls.ask("a", past_the_deadline, Deadline.after(0.05))
    assert await first == ("answer 1", False)


async def test_a_followers_clock_stands_still_with_what_it_waits_for():
    clock, entered = Clock(), []

    @contextmanager
    def held_up(deadline: Deadline):
        entered.append(deadline)
        deadline.clock.pause("the trainer")
        yield
        deadline.clock.resume("the trainer")

    server, calls = Server(0.2), SingleFlight[str](8, held_up)
    first = asyncio.ensure_future(calls.ask("a", server.answer, Deadline.after(LONG)))
    await asyncio.sleep(0.01)
    deadline = Deadline.after(0.05, clock)
    assert await calls.ask("a", past_the_deadline, deadline) == ("answer 1", True)
    await first
    assert entered == [deadline] and clock.paused_s > 0.1
