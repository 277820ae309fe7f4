"""A call that the trainer holds up costs its trajectory no time."""

from __future__ import annotations

import asyncio

from agentflow_verl.core.clock import Clock
from agentflow_verl.core.interruptions import Interruptions, aborted, sent_again


class Wall:
    """A wall clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_call_under_way_is_paused_from_suspension_to_resumption():
    wall, servers = Wall(), Interruptions()
    clock = Clock(wall)
    with servers.waiting(clock):
        wall.seconds = 1
        servers.suspend()
        wall.seconds = 4
        servers.resume()
        wall.seconds = 5
    assert (clock.now(), clock.paused_s) == (2, 3)


def test_a_call_that_comes_to_suspended_servers_is_paused_at_once():
    wall, servers = Wall(), Interruptions()
    clock = Clock(wall)
    servers.suspend()
    with servers.waiting(clock):
        wall.seconds = 2
    wall.seconds = 3  # the call ended, whatever the servers do: a tool may be running
    assert (clock.now(), clock.paused_s, clock.paused) == (1, 2, False)


def test_who_calls_other_servers_is_not_paused():
    wall, servers, others = Wall(), Interruptions(), Interruptions()
    clock = Clock(wall)
    with others.waiting(clock):
        servers.suspend()
        wall.seconds = 2
    assert clock.paused_s == 0


def test_an_aborted_request_is_paused_until_it_is_sent_again():
    """verl's client waits a second between the two, whether or not the servers go on."""
    wall, servers = Wall(), Interruptions()
    clock = Clock(wall)
    with servers.waiting(clock):
        sent_again()
        wall.seconds = 1
        servers.suspend()
        aborted()
        wall.seconds = 2
        servers.resume()
        wall.seconds = 3
        sent_again()
        wall.seconds = 5
    assert (clock.now(), clock.paused_s) == (3, 2)


def test_an_aborted_request_that_is_given_up_holds_no_clock():
    clock = Clock()
    with Interruptions().waiting(clock):
        aborted()
    assert not clock.paused


async def test_an_abort_pauses_the_call_of_its_own_task_alone():
    servers = Interruptions()
    clocks = [Clock(), Clock()]
    both_wait = asyncio.Event()

    async def call(clock: Clock, is_aborted: bool) -> bool:
        with servers.waiting(clock):
            if is_aborted:
                aborted()
                both_wait.set()
            await both_wait.wait()
            return clock.paused

    paused = await asyncio.gather(call(clocks[1], False), call(clocks[0], True))
    assert paused == [False, True]


def test_outside_a_call_there_is_nothing_to_pause():
    aborted()
    sent_again()
