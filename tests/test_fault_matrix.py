"""Each component, broken in each way: how the trajectory ends, what is counted, and that nothing
outlives its deadline.

What a fault does in detail is tested beside each component. Here the whole flow runs over the real
clients: Ray actors behind ``TokenEngine``, sockets behind ``EndpointEngine``, ``ToolBox`` and
``Judge``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import ray
import torch
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from agentflow_verl.config.endpoint import EndpointConfig
from agentflow_verl.config.judge import JudgeConfig
from agentflow_verl.config.limits import Limits
from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core import retry
from agentflow_verl.core.retry import RetryPolicy
from agentflow_verl.engines import token_engine
from agentflow_verl.engines.openai_endpoint import EndpointEngine
from agentflow_verl.engines.token_engine import TokenEngine
from agentflow_verl.flow.loop import Flow
from agentflow_verl.rewards.judge.client import Judge, score_with_judge
from agentflow_verl.tools import tool_client
from agentflow_verl.tools.toolbox import ToolBox
from agentflow_verl.trainer.batching.dealing import BatchIndex
from agentflow_verl.trainer.metrics import batch_metrics
from agentflow_verl.trainer.rollout.frozen_base import ReplicaClient, abort_when_cancelled
from agentflow_verl.trainer.rollout.row_record import FIELD
from agentflow_verl.trainer.rollout.rows import to_rows
from agentflow_verl.trainer.rollout.worker import after_scoring
from agentflow_verl.trajectories.records import Outcome, Trajectory
from tests.engines import tokenizers
from tests.flow.fakes import PLAN, STOP, ScriptedTools, engines
from tests.rewards.judge.judge_server import completion, verdict
from tests.tools import faults
from tests.tools.servers import FaultyServer, send_result
from tests.trainer.rollout.servers import Model
from tests.trainer.rollout.test_frozen_base import Policy

COMPONENTS = ("policy", "base", "endpoint", "tool", "judge")
EXPECTED = {
    "killed": Outcome.INFRA_ERROR,
    "hung": Outcome.INFRA_ERROR,
    "slow": Outcome.ANSWERED,
    "garbage": Outcome.INFRA_ERROR,
    "refusing": Outcome.INFRA_ERROR,
}
NEVER_S = 60.0  # a hang, on a machine however busy
TOKENIZER = tokenizers.make()


def budget_s(fault: str) -> float:
    """Short only where it has to run out."""
    return 1.0 if fault == "hung" else 0.8 * NEVER_S


# ---- the two that are Ray actors ----


@pytest.fixture(scope="module")
def actors() -> Iterator[dict[str, Any]]:
    """By name: one that lives, one to be killed for each of the two, one that is dead already."""
    ray.init(num_cpus=2, include_dashboard=False)
    made = {
        name: ray.remote(Model).options(name=name, num_cpus=0).remote()
        for name in ("lives", "policy", "base", "dead")
    }
    ray.kill(made["dead"])
    ray.get(
        [
            made[name].generate.remote([], {"fault": "", "says": [1]})
            for name in ("lives", "policy", "base")
        ]
    )
    yield made
    ray.shutdown()


@asynccontextmanager
async def actor_behind(
    component: str, fault: str, request: pytest.FixtureRequest
) -> AsyncIterator[Flow]:
    made = request.getfixturevalue("actors")
    name = {"killed": component, "refusing": "dead"}.get(fault, "lives")
    if component == "policy":
        module, says, generate = "planner", PLAN, abort_when_cancelled(Policy(made[name])).generate
    else:
        client = ReplicaClient(("lives",))
        client.servers = {"lives": made[name]}
        module, says, generate = "verifier", STOP, client.generate
    sampling = {"fault": fault, "says": TOKENIZER.encode(says)}
    used = engines()
    used[module] = TokenEngine(component, TOKENIZER, generate, sampling, 10_000, 500)
    yield Flow(used, ScriptedTools(), Limits(time_budget_s=budget_s(fault)))


# ---- those behind sockets ----


def answering(fault: str, text: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep({"hung": 3600.0, "slow": 0.3}.get(fault, 0.0))
        if fault == "killed":
            request.transport.abort()
        return web.Response(text="<html>") if fault == "garbage" else completion(text)

    return answer


@asynccontextmanager
async def chat_server(
    fault: str, text: str
) -> AsyncIterator[tuple[EndpointConfig, aiohttp.ClientSession]]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", answering(fault, text))
    server = TestServer(app, handler_cancellation=True)
    await server.start_server()
    url = (
        f"http://127.0.0.1:{unused_port()}/v1"
        if fault == "refusing"
        else str(server.make_url("/v1"))
    )
    async with aiohttp.ClientSession() as session:
        yield EndpointConfig(base_url=url, model="m", retries=2), session
    await server.close()


@asynccontextmanager
async def endpoint_behind(
    component: str, fault: str, request: pytest.FixtureRequest
) -> AsyncIterator[Flow]:
    async with chat_server(fault, STOP) as (config, session):
        yield Flow(
            {**engines(), "verifier": EndpointEngine("endpoint", config, session)},
            ScriptedTools(),
            Limits(time_budget_s=budget_s(fault)),
        )


async def late(writer: Any, request_id: Any) -> None:
    await asyncio.sleep(0.3)
    send_result(writer, request_id, {"content": [{"type": "text", "text": "4"}]})


@asynccontextmanager
async def tool_behind(
    component: str, fault: str, request: pytest.FixtureRequest
) -> AsyncIterator[Flow]:
    server = FaultyServer()
    await server.start()
    async with await ToolBox.open([ToolConfig(name="faulty", urls=(server.url,))]) as tools:
        broken = {
            "killed": faults.reset,
            "hung": faults.hang,
            "slow": late,
            "garbage": faults.not_json,
        }
        server.faults = [broken[fault]] * 6 if fault in broken else []
        if fault == "refusing":
            await server.stop()
        yield Flow(
            engines(planner=PLAN.replace("python_coder", "echo"), executor="{}"),
            tools,
            Limits(time_budget_s=budget_s(fault)),
        )
    if fault != "refusing":
        await server.stop()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_engine, "PROBE_S", 0.5)
    monkeypatch.setattr(retry, "random", SimpleNamespace(uniform=lambda low, high: 0.01))
    monkeypatch.setattr(tool_client, "RETRY", RetryPolicy(first_pause_s=0.01))


BEHIND = {
    "policy": actor_behind,
    "base": actor_behind,
    "endpoint": endpoint_behind,
    "tool": tool_behind,
}


@pytest.mark.parametrize("fault", EXPECTED)
@pytest.mark.parametrize("component", BEHIND)
async def test_a_broken_component_ends_the_trajectory_as_it_should(component, fault, request):
    async with BEHIND[component](component, fault, request) as flow:
        trajectory = await asyncio.wait_for(flow.run("What is 2 * 2?", "g_0"), NEVER_S)
    assert trajectory.outcome is EXPECTED[fault], trajectory.error
    assert (trajectory.error is None) == (fault == "slow")
    assert (
        trajectory.error is None or {"tool": "echo"}.get(component, component) in trajectory.error
    ), "it says who failed"
    assert_counted(trajectory)


@pytest.mark.parametrize("fault", EXPECTED)
async def test_a_broken_judge_is_an_infra_error_and_no_wrong_answer(fault):
    trajectory = await Flow(engines(), ScriptedTools(), Limits()).run("What is 2 * 2?", "g_0")
    async with chat_server(fault, verdict(True)) as (config, session):
        judge = Judge(JudgeConfig(mode="alone", timeout_s=budget_s(fault)), config, session)
        try:
            await asyncio.wait_for(
                score_with_judge(judge, "maths", trajectory.answer, "4", {}), NEVER_S
            )
            said = {"scored": 1.0}
        except Exception as broken:  # what the reward manager does with it
            said = {"scored": 0.0, "reason": f"{type(broken).__name__}: {broken}"}
        await judge.close()
    ended = after_scoring(trajectory, said)
    assert ended.outcome is (Outcome.ANSWERED if fault == "slow" else Outcome.INFRA_ERROR), (
        "a judge that hangs is not the model's fault either"
    )
    assert (
        ended.error is None
        or ended.error.startswith("the scorer failed: InfraError: ")
        and "judge" in ended.error
    )
    assert_counted(ended)


def assert_counted(trajectory: Trajectory) -> None:
    """The outcome is a metric, and an infra error teaches nothing."""
    rows = to_rows(trajectory, placeholder_id=0, policy_version=1)
    ours = [row.extra_fields[FIELD] for row in rows]
    index = BatchIndex.of([f"g_0_{number}" for number in range(len(rows))], [{}] * len(rows))
    nothing = torch.zeros(len(rows))
    valid_R = torch.tensor([each.valid for each in ours])
    metrics = batch_metrics(ours, index, valid_R, nothing, nothing, nothing)
    assert {
        name: value
        for name, value in metrics.items()
        if name.startswith("agentflow/outcome/") and value
    } == {f"agentflow/outcome/{trajectory.outcome.value}": 1.0}
    faulted = trajectory.outcome is Outcome.INFRA_ERROR
    assert all(each.valid is not faulted for each in ours)
    assert not faulted or not any(any(row.response_mask) for row in rows)
