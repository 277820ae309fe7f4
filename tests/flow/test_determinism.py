"""With a seed, and servers that answer by it, two runs give the same trajectories to the byte,
whatever ends first.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from agentflow_verl.config.endpoint import EndpointConfig
from agentflow_verl.config.limits import Limits
from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.engines.interface import Engine
from agentflow_verl.engines.openai_endpoint import EndpointEngine
from agentflow_verl.engines.shared_calls import SharedCalls
from agentflow_verl.flow.loop import Flow
from agentflow_verl.flow.modules import MODULES
from agentflow_verl.flow.replay import timeless
from agentflow_verl.tools.toolbox import ToolBox
from tests.tools.servers import FaultyServer, send_result

ROOT = Path(__file__).parents[2]
TRAJECTORIES = 40
SAID = {
    "analyst": ["Look it up.", "Think first.", ""],
    "planner": [
        "Justification: a\nContext: b\nSub-goal: find {}\nTool: Echo",
        "Sub-goal: find {}\nTool: abacus",
        "hm {}",
    ],
    "executor": ['{{"text": "{}"}}', "echo {}"],
    "verifier": [
        "Analysis: no\nConclusion: CONTINUE",
        "Analysis: no {}\nConclusion: CONTINUE",
        "Analysis: yes\nConclusion: STOP",
        "?",
    ],
    "generator": ["<answer>{}</answer>", ""],
}


asked: list[str] = []
"""The module of each request."""


async def sample(request: web.Request) -> web.Response:
    """A model server that samples by the request's seed, after a time that no seed sets."""
    body = await request.json()
    asked.append(body["model"])
    # At temperature 0 the reply follows from the prompt alone.
    by = body["seed"] if body["temperature"] else json.dumps(body["messages"])
    draw = random.Random(by)
    text = draw.choice(SAID[body["model"]]).format(draw.randrange(1000))
    await asyncio.sleep(random.SystemRandom().uniform(0.0, 0.02))
    return web.json_response(
        {
            "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1},
        }
    )


class Echo(FaultyServer):
    """Its answers follow from the request, its pace from nothing."""

    async def _answer(self, writer, request):
        if request["method"] != "tools/call":
            return await super()._answer(writer, request)
        await asyncio.sleep(random.SystemRandom().uniform(0.0, 0.02))
        text = json.dumps(request["params"]["arguments"])
        send_result(
            writer,
            request["id"],
            {"isError": "7" in text, "content": [{"type": "text", "text": text}]},
        )


async def run_all(seed: int, groups: int = TRAJECTORIES, share: bool = False) -> bytes:
    """Trajectories of as many groups. With fewer groups the frozen modules are greedy, and with
    ``share`` equal prompts are asked once.
    """
    asked.clear()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", sample)
    server, echo = TestServer(app), Echo()
    await asyncio.gather(server.start_server(), echo.start())
    tools = [ToolConfig(name="echo", urls=(echo.url,))]
    async with aiohttp.ClientSession() as session, await ToolBox.open(tools) as box:
        base_url = str(server.make_url("/v1"))
        engines: dict[str, Engine] = {}
        for module in MODULES:
            greedy = groups < TRAJECTORIES and module != "planner"
            config = EndpointConfig(
                base_url=base_url, model=module, temperature=0.0 if greedy else 1.0, seed=seed
            )
            engines[module] = EndpointEngine(module, config, session)
            if share and greedy:
                engines[module] = SharedCalls(engines[module])
        flow = Flow(engines, box, Limits(max_turns=3))
        found = await asyncio.gather(
            *(
                flow.run(f"Question {number % groups}?", f"t{number}")
                for number in range(TRAJECTORIES)
            )
        )
    await asyncio.gather(server.close(), echo.stop())
    return "\n".join(
        json.dumps(timeless(trajectory), sort_keys=True) for trajectory in found
    ).encode()


def in_a_process(seed: int, hash_seed: str) -> bytes:
    program = (
        f"import asyncio, sys; from {__name__} import run_all;"
        f" sys.stdout.buffer.write(asyncio.run(run_all({seed})))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
    ).stdout


def test_two_processes_make_the_same_trajectories():
    first = in_a_process(7, "1")
    lines = [json.loads(line) for line in first.splitlines()]
    assert (
        len({line["outcome"] for line in lines}) == 3 and len(set(map(str, lines))) == TRAJECTORIES
    ), "they are of all sorts"
    assert in_a_process(7, "2") == first
    assert in_a_process(8, "1") != first


async def test_asked_once_or_each_time_a_group_is_the_same_to_the_byte():
    plain = await run_all(7, groups=5)
    each_time = Counter(asked)
    shared = await run_all(7, groups=5, share=True)
    once = Counter(asked)
    assert shared == plain
    assert each_time["analyst"] == TRAJECTORIES and once["analyst"] == 5
    assert once["planner"] == each_time["planner"], "the trained module is never shared"
    assert once["generator"] <= each_time["generator"]
