"""The circuit breaker: a URL that fails is left alone, tried now and then, and used again when it
answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core import balancer, circuit_breaker
from agentflow_verl.core.balancer import Replicas
from agentflow_verl.core.errors import InfraError
from agentflow_verl.core.retry import RetryPolicy
from agentflow_verl.core.server_errors import NoReplica, ServerFault
from agentflow_verl.tools import tool_client
from agentflow_verl.tools.toolbox import ToolBox
from tests.tools.servers import EchoProcess, echo_process, soon

A, B = "http://a/mcp", "http://b/mcp"
DOWN = ServerFault("down")


class Clock:
    now = 1000.0


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(balancer, "_now", lambda: clock.now)
    monkeypatch.setattr(circuit_breaker.random, "uniform", lambda low, high: 1.0)
    return clock


def ask(replicas: Replicas, outcome: Exception | None = None, avoid: tuple[str, ...] = ()) -> str:
    """One call that ends like this at once; the URL that took it."""
    with contextlib.suppress(ServerFault), replicas.one(avoid) as url:
        if outcome:
            raise outcome
    return url


def open_circuit(replicas: Replicas) -> None:
    for _ in range(circuit_breaker.FAILURES_TO_OPEN):
        ask(replicas, DOWN, avoid=(B,))


def test_after_three_failures_in_a_row_a_url_gets_no_calls(clock):
    replicas = Replicas([A, B])
    open_circuit(replicas)
    assert {ask(replicas) for _ in range(20)} == {B}
    assert ask(replicas, avoid=(B,)) == B
    assert not replicas.another(than={B})


def test_a_success_in_between_starts_the_count_again(clock):
    replicas = Replicas([A])
    for outcome in (DOWN, DOWN, None) * 5:
        assert ask(replicas, outcome) == A


def test_one_call_a_cool_down_tries_it_and_each_failure_doubles_the_cool_down(clock):
    replicas = Replicas([A])
    open_circuit(replicas)
    tried = []
    for _ in range(2000):
        clock.now += 0.05
        with contextlib.suppress(NoReplica):
            ask(replicas, DOWN)
            tried.append(clock.now - 1000)
    gaps = [later - earlier for earlier, later in zip(tried, tried[1:])]
    assert tried[0] == pytest.approx(1, abs=0.1)
    assert gaps[:5] == pytest.approx([2, 4, 8, 16, 30], abs=0.1)


def test_one_success_closes_it(clock):
    replicas = Replicas([A])
    open_circuit(replicas)
    clock.now += 1
    ask(replicas)
    assert [ask(replicas) for _ in range(5)] == [A] * 5


def test_calls_that_were_under_way_when_it_opened_do_not_lengthen_the_cool_down(clock):
    replicas = Replicas([A])
    under_way = [replicas.one(()) for _ in range(20)]
    for lent in under_way:
        lent.__enter__()
    clock.now += 0.1
    for lent in under_way:
        assert not lent.__exit__(ServerFault, DOWN, None)
    clock.now += 1
    assert ask(replicas) == A


def test_a_server_that_is_only_busy_stays_in_use(clock):
    replicas = Replicas([A])
    assert [ask(replicas, ServerFault("busy", busy=True)) for _ in range(20)] == [A] * 20


def test_what_a_call_ends_with_for_reasons_of_its_own_is_not_held_against_the_url(clock):
    replicas = Replicas([A])
    for _ in range(10):
        with pytest.raises(ValueError), replicas.one(()):
            raise ValueError("the caller's")
    assert ask(replicas) == A


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(0, 9)), max_size=60))
def test_a_call_goes_where_the_fewest_are_in_flight_whichever_have_ended(events):
    """``None`` begins a call, a number ends one of those in flight."""

    async def run() -> None:
        replicas, running = Replicas([A, B, "http://c/mcp"]), []
        for ends in events:
            if ends is None:
                load = Counter({url: 0 for url in (A, B, "http://c/mcp")})
                load.update(url for _, url in running)
                lent = replicas.one(())
                running.append((lent, lent.__enter__()))
                assert load[running[-1][1]] == min(load.values())
            elif running:
                running.pop(ends % len(running))[0].__exit__(None, None, None)

    asyncio.run(run())


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(tool_client, "RETRY", RetryPolicy(first_pause_s=0.02))
    monkeypatch.setattr(circuit_breaker, "COOL_DOWN_S", (0.1, 0.4))


async def test_a_dead_replica_is_routed_around(echo, monkeypatch):
    monkeypatch.setattr(circuit_breaker, "COOL_DOWN_S", (600.0, 600.0))
    with echo_process() as other:
        async with await ToolBox.open(
            [ToolConfig(name="echo", urls=(other.url, echo.url))]
        ) as tools:
            other.kill()
            results = [
                await tools.call("echo", {"text": str(number)}, soon()) for number in range(40)
            ]
    assert [result.text for result in results] == [str(number) for number in range(40)]
    assert sum(result.attempts for result in results) <= 40 + circuit_breaker.FAILURES_TO_OPEN


async def test_calls_outwait_an_outage_that_ends(quick, monkeypatch):
    monkeypatch.setattr(balancer, "OUTAGE_S", 120.0)
    with echo_process() as server:
        async with await ToolBox.open([ToolConfig(name="echo", urls=(server.url,))]) as tools:
            server.kill()
            with pytest.raises(InfraError, match="giving up"):
                await tools.call("echo", {"text": "x"}, soon())
            texts = [str(number) for number in range(100)]
            calls = asyncio.gather(
                *(tools.call("echo", {"text": text}, soon(120)) for text in texts)
            )
            await asyncio.sleep(0.3)
            again = await asyncio.to_thread(EchoProcess, port=server.port)
            try:
                assert [result.text for result in await calls] == texts
            finally:
                again.kill()


async def test_an_outage_that_lasts_fails_calls_at_once_and_sends_nothing(quick, monkeypatch):
    monkeypatch.setattr(balancer, "OUTAGE_S", 0.3)
    monkeypatch.setattr(circuit_breaker, "COOL_DOWN_S", (30.0, 30.0))
    with echo_process() as server:
        async with await ToolBox.open([ToolConfig(name="echo", urls=(server.url,))]) as tools:
            server.kill()
            with pytest.raises(InfraError, match="attempt 3, giving up"):
                await tools.call("echo", {"text": "x"}, soon())
            await asyncio.sleep(0.4)
            with socket.create_server(("127.0.0.1", server.port)) as listener:
                with pytest.raises(
                    InfraError, match="tool echo: no URL answers, the last failure was .*Connect"
                ):
                    await tools.call("echo", {"text": "x"}, soon())
                listener.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    listener.accept()


async def test_an_outage_is_not_waited_out_past_the_deadline(quick, monkeypatch):
    monkeypatch.setattr(circuit_breaker, "COOL_DOWN_S", (30.0, 30.0))
    with echo_process() as server:
        async with await ToolBox.open([ToolConfig(name="echo", urls=(server.url,))]) as tools:
            server.kill()
            for _ in range(3):
                with pytest.raises(InfraError):
                    await tools.call("echo", {"text": "x"}, soon(2))
