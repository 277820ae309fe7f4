"""Two hundred trajectories while everything fails at random: each ends once, the counts add up, and
faults teach nothing.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from types import SimpleNamespace

import aiohttp
import pytest
import torch
from aiohttp import web
from aiohttp.test_utils import TestServer
from verl.workers.rollout.replica import TokenOutput

from agentflow_verl.config.endpoint import EndpointConfig
from agentflow_verl.config.judge import JudgeConfig
from agentflow_verl.config.limits import Limits
from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core import retry
from agentflow_verl.core.errors import InfraError
from agentflow_verl.core.retry import RetryPolicy
from agentflow_verl.engines.openai_endpoint import EndpointEngine
from agentflow_verl.engines.token_engine import TokenEngine
from agentflow_verl.flow.loop import Flow
from agentflow_verl.flow.modules import MODULES
from agentflow_verl.flow_grpo.algorithm import advantages, weights
from agentflow_verl.rewards.judge.client import Judge, score_with_judge
from agentflow_verl.tools import tool_client
from agentflow_verl.tools.toolbox import ToolBox
from agentflow_verl.trainer.batching.dealing import BatchIndex
from agentflow_verl.trainer.metrics import batch_metrics
from agentflow_verl.trainer.resilience.fault_limit import stop_on_faults
from agentflow_verl.trainer.rollout.row_record import FIELD
from agentflow_verl.trainer.rollout.rows import to_rows
from agentflow_verl.trainer.rollout.worker import after_scoring
from agentflow_verl.trajectories.records import Outcome, Trajectory
from tests.engines import tokenizers
from tests.flow.fakes import PLAN
from tests.rewards.judge.judge_server import completion, verdict
from tests.tools import faults
from tests.tools.servers import FaultyServer

GROUPS, EACH = 25, 8
PATIENCE_S = 4.0  # of one call
TOKENIZER = tokenizers.make()
SAID = {
    "analyst": ["Double it."],
    "executor": ['{"text": "4"}', '{"text": "4"}', "no JSON"],
    "verifier": ["Analysis: yes\nConclusion: STOP", "Analysis: no\nConclusion: CONTINUE"],
    "generator": ["<answer>4</answer>", "<answer>5</answer>", "<answer>6</answer>", ""],
}
TOOL_FAULTS = [faults.reset, faults.status_500, faults.not_json, faults.close_early, faults.hang]


class Chaos:
    """Everything that answers, each failing by its own dice."""

    def __init__(self) -> None:
        self.dice = random.Random(5)

    def fails(self, rate: float) -> bool:
        return self.dice.random() < rate

    async def policy(self, request_id, *, prompt_ids, sampling_params):
        await asyncio.sleep(self.dice.uniform(0.0, 0.01))
        if self.fails(0.03):
            raise ConnectionError("the actor died")
        text = "hm" if self.fails(0.25) else PLAN.replace("python_coder", "echo")
        return TokenOutput(
            token_ids=[] if self.fails(0.02) else TOKENIZER.encode(text), log_probs=None
        )

    async def chat(self, request: web.Request) -> web.StreamResponse:
        module = (await request.json())["model"]
        await asyncio.sleep(3600 if self.fails(0.01) else self.dice.uniform(0.0, 0.01))
        if self.fails(0.2):
            return web.Response(status=503)
        if self.fails(0.02):
            request.transport.abort()
        if self.fails(0.03):
            return web.Response(text="<html>")
        return completion(
            verdict(self.fails(0.5)) if module == "judge" else self.dice.choice(SAID[module])
        )


class Tool(FaultyServer):
    def __init__(self, chaos: Chaos):
        super().__init__()
        self.chaos = chaos

    async def _answer(self, writer, request):
        if request["method"] == "tools/call" and self.chaos.fails(0.2):
            self.faults = [self.chaos.dice.choice(TOOL_FAULTS)]
        await super()._answer(writer, request)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "random", SimpleNamespace(uniform=lambda low, high: 0.01))
    monkeypatch.setattr(tool_client, "RETRY", RetryPolicy(first_pause_s=0.01))


async def soak() -> list[tuple[Trajectory, float]]:
    """All trajectories as they are logged, with their reward."""
    chaos = Chaos()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", chaos.chat)
    server, tool = TestServer(app, handler_cancellation=True), Tool(chaos)
    await asyncio.gather(server.start_server(), tool.start())
    url = str(server.make_url("/v1"))
    config = ToolConfig(
        name="faulty", urls=(tool.url,), timeout_s=PATIENCE_S, concurrency=GROUPS * EACH
    )
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        await ToolBox.open([config]) as tools,
    ):
        engines = {
            module: EndpointEngine(
                module,
                EndpointConfig(base_url=url, model=module, timeout_s=PATIENCE_S, retries=1),
                session,
            )
            for module in MODULES
        }
        engines["planner"] = TokenEngine("policy", TOKENIZER, chaos.policy, {}, 10_000, 500)
        judge = Judge(
            JudgeConfig(mode="alone", timeout_s=PATIENCE_S),
            EndpointConfig(base_url=url, model="judge", retries=0),
            session,
        )

        async def one(group: int, number: int) -> tuple[Trajectory, float]:
            seconds = 100.0  # a busy machine is not to end them all
            if chaos.fails(0.1):
                seconds = 0.03
                await asyncio.sleep(1.0)  # a server that never answered yet would be at fault
            flow = Flow(engines, tools, Limits(max_turns=3, time_budget_s=seconds))
            trajectory = await flow.run(f"What is 2 * 2? ({group})", f"{group}_{number}")
            reward, said = 0.0, {"scored": float(trajectory.outcome.valid)}
            if trajectory.outcome.valid:
                try:
                    reward = (
                        await score_with_judge(
                            judge, "maths", trajectory.answer, "4", {"question": trajectory.id}
                        )
                    )[0].value
                except InfraError as fault:
                    said = {"scored": 0.0, "reason": str(fault)}
            return after_scoring(trajectory, said), reward

        found = await asyncio.wait_for(
            asyncio.gather(
                *(one(group, number) for group in range(GROUPS) for number in range(EACH))
            ),
            120.0,
        )
        await judge.close()
    await asyncio.gather(server.close(), tool.stop())
    return found


async def test_every_trajectory_ends_once_and_faults_change_no_advantage():
    before = asyncio.all_tasks()
    found = await soak()
    await asyncio.sleep(0.1)
    assert asyncio.all_tasks() <= before, "nothing is left running"

    counts = Counter(trajectory.outcome for trajectory, _ in found)
    assert sum(counts.values()) == GROUPS * EACH == len({trajectory.id for trajectory, _ in found})
    assert set(counts) == set(Outcome), "the dice were thrown long enough"
    for trajectory, _ in found:
        assert Trajectory.model_validate_json(trajectory.model_dump_json()) == trajectory
        assert (trajectory.error is None) == (
            trajectory.outcome in (Outcome.ANSWERED, Outcome.OUT_OF_TURNS)
        ), trajectory.error

    ours, keys, rewards, tokens = [], [], [], []
    for trajectory, reward in found:
        rows = to_rows(trajectory, placeholder_id=0, policy_version=1)
        ours += [row.extra_fields[FIELD] for row in rows]
        keys += [f"{trajectory.id}_{number}" for number in range(len(rows))]
        rewards += [reward] * len(rows)
        tokens += [sum(row.response_mask) for row in rows]
    index = BatchIndex.of(keys, [{}] * len(keys))
    reward_R, valid_R, tokens_R = (
        torch.tensor(rewards),
        torch.tensor([each.valid for each in ours]),
        torch.tensor(tokens),
    )
    advantage_R = advantages(reward_R, index.trajectory_R, index.group_R, valid_R)
    weight_R = weights(reward_R, index.trajectory_R, index.group_R, valid_R, tokens_R)
    alone = (
        reward_R[valid_R],
        index.trajectory_R[valid_R],
        index.group_R[valid_R],
        torch.ones(int(valid_R.sum()), dtype=torch.bool),
    )
    assert (
        torch.equal(advantage_R[valid_R], advantages(*alone))
        and advantage_R[valid_R].abs().sum() > 0
    )
    assert torch.equal(weight_R[valid_R], weights(*alone, tokens_R[valid_R]))
    assert not advantage_R[~valid_R].any() and not weight_R[~valid_R].any()

    metrics = batch_metrics(ours, index, valid_R, reward_R, advantage_R, weight_R * tokens_R)
    rates = {outcome: metrics[f"agentflow/outcome/{outcome.value}"] for outcome in Outcome}
    assert math.isclose(sum(rates.values()), 1.0)
    assert {outcome: round(rate * len(found)) for outcome, rate in rates.items()} == dict(counts)
    share = counts[Outcome.INFRA_ERROR] / len(found)
    stop_on_faults(ours, limit=share)
    with pytest.raises(
        InfraError,
        match=(
            f"{counts[Outcome.INFRA_ERROR]} of {len(found)} trajectories ended in infrastructure"
            " faults"
        ),
    ):
        stop_on_faults(ours, limit=share - 0.01)
