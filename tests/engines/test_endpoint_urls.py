"""An endpoint with several URLs, and one that holds replies to a schema: real HTTP servers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from agentflow_verl.config.endpoint import EndpointConfig
from agentflow_verl.core import circuit_breaker, retry
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import InfraError
from agentflow_verl.engines.interface import Reply
from agentflow_verl.engines.openai_endpoint import EndpointEngine
from agentflow_verl.flow.loop import Flow
from agentflow_verl.flow.replies import VERDICT
from tests.flow.fakes import PYTHON, ScriptedTools, engines

MESSAGES = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "2 * 2?"}]
SCHEMA = {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]}


class Node:
    """One server of the endpoint: what it was asked, and what it answers."""

    def __init__(self) -> None:
        self.status, self.text = 200, '{"code": "print(4)"}'
        self.takes_schema = True
        self.bodies: list[dict[str, Any]] = []
        self.gate: asyncio.Event | None = None
        self.server: TestServer

    async def handle(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        if self.gate is not None:
            await self.gate.wait()
        if self.status != 200:
            return web.Response(status=self.status)
        if "response_format" in self.bodies[-1] and not self.takes_schema:
            return web.Response(status=400, text="response_format: json_schema is not supported")
        return web.json_response(
            {"choices": [{"message": {"content": self.text}, "finish_reason": "stop"}]}
        )


Maker = Callable[..., EndpointEngine]


@pytest_asyncio.fixture
async def served() -> AsyncIterator[tuple[list[Node], Maker]]:
    """Three servers, and a maker of engines over all of them."""
    async with AsyncExitStack() as stack:
        nodes = [Node(), Node(), Node()]
        for node in nodes:
            app = web.Application()
            app.router.add_post("/v1/chat/completions", node.handle)
            node.server = await stack.enter_async_context(TestServer(app))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        first, *further = (str(node.server.make_url("/v1")) for node in nodes)

        def make(**changed: Any) -> EndpointEngine:
            return EndpointEngine(
                "judge",
                EndpointConfig(
                    base_url=first, model="m", **{"further_urls": tuple(further), **changed}
                ),
                session,
            )

        yield nodes, make


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry.random, "uniform", lambda low, high: 0.01)


async def ask(engine: EndpointEngine, trajectory: str = "t0", **more: Any) -> Reply:
    return await engine.reply(
        MESSAGES, trajectory=trajectory, deadline=Deadline.after(20.0), **more
    )


async def test_a_trajectory_stays_on_one_url(served):
    nodes, make = served
    engine = make()
    for trajectory in ("t0", "t1", "t2", "t3"):
        before = [len(node.bodies) for node in nodes]
        for _ in range(5):
            await ask(engine, trajectory)
        assert sorted(len(node.bodies) - had for node, had in zip(nodes, before)) == [0, 0, 5]


async def test_trajectories_begin_where_the_fewest_calls_are_in_flight(served):
    nodes, make = served
    engine, gate = make(), asyncio.Event()
    for node in nodes:
        node.gate = gate
    calls = [asyncio.create_task(ask(engine, f"t{number}")) for number in range(12)]
    while sum(len(node.bodies) for node in nodes) < 12:
        await asyncio.sleep(0.01)
    assert [len(node.bodies) for node in nodes] == [4, 4, 4]
    gate.set()
    await asyncio.gather(*calls)


async def test_a_url_that_refuses_is_replaced_at_once_and_the_trajectory_stays_with_the_other(
    served, monkeypatch
):
    nodes, make = served
    monkeypatch.setattr(
        retry.random, "uniform", lambda low, high: pytest.fail("nobody has to wait")
    )
    engine = make()
    await ask(engine)
    home = next(node for node in nodes if node.bodies)
    await home.server.close()
    for _ in range(3):
        assert (await ask(engine)).text
    assert sorted(len(node.bodies) for node in nodes if node is not home) == [0, 3]


async def test_a_url_that_keeps_failing_is_left_alone(served, monkeypatch):
    nodes, make = served
    monkeypatch.setattr(circuit_breaker, "COOL_DOWN_S", (60_000.0, 60_000.0))
    nodes[0].status = 503
    engine = make()
    for number in range(60):
        await ask(engine, f"t{number}")
    assert len(nodes[0].bodies) == circuit_breaker.FAILURES_TO_OPEN


async def test_where_all_fail_the_fault_is_named_after_the_attempts(served):
    nodes, make = served
    for node in nodes:
        node.status = 503
    with pytest.raises(InfraError, match="endpoint judge: HTTP 503 .attempt 3, giving up"):
        await ask(make(retries=2))
    assert [len(node.bodies) for node in nodes] == [1, 1, 1]


# ---- structured output ----


async def test_the_executor_is_held_to_the_tools_schema_and_the_verifier_to_its_own(served):
    nodes, make = served
    agent = Flow(
        {**engines(), "executor": make(structured=True), "verifier": make(structured=True)},
        ScriptedTools("4", specs=(PYTHON,)),
    )
    for node in nodes:
        node.text = '{"code": "print(4)", "why": "Conclusion: STOP"}'
    trajectory = await agent.run("2 * 2?", "t0")
    formats = {
        body["messages"][0]["content"].split()[1]: body.get("response_format")
        for node in nodes
        for body in node.bodies
    }
    assert formats == {
        "turn": {
            "type": "json_schema",
            "json_schema": {"name": "reply", "schema": PYTHON.parameters},
        },
        "judge": {
            "type": "json_schema",
            "json_schema": {"name": "reply", "schema": VERDICT},
        },
    }
    assert trajectory.turns[0].call is not None


@pytest.mark.parametrize(("config", "sent"), [({}, True), ({"structured": False}, False)])
async def test_a_schema_is_sent_unless_the_configuration_says_no(served, config, sent):
    nodes, make = served
    await ask(make(**config), schema=SCHEMA)
    assert ["response_format" in body for node in nodes for body in node.bodies] == [sent]


async def test_a_server_that_refuses_schemas_is_asked_once_and_from_then_on_without(served, caplog):
    nodes, make = served
    caplog.set_level(logging.WARNING)
    for node in nodes:
        node.takes_schema = False
    engine = make(structured=True, retries=0)
    assert [(await ask(engine, schema=SCHEMA)).text for _ in range(3)] == [
        '{"code": "print(4)"}'
    ] * 3
    sent = ["response_format" in body for node in nodes for body in node.bodies]
    assert sorted(sent) == [False, False, False, True]
    assert (
        caplog.text.count(
            "does not take a JSON schema and is asked without it: HTTP 400: response_format"
        )
        == 1
    )


async def test_a_refused_schema_does_not_stop_another(served):
    nodes, make = served
    for node in nodes:
        node.takes_schema = False
    engine = make(structured=True)
    await ask(engine, schema=SCHEMA)
    for node in nodes:
        node.takes_schema = True
        node.bodies.clear()
    await ask(engine, schema=SCHEMA)
    await ask(engine, schema={"type": "object"})
    assert ["response_format" in body for node in nodes for body in node.bodies] == [False, True]
