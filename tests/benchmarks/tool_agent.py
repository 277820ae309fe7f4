"""This flow beside verl's own ``tool_agent`` loop on one real vLLM server: ``python -m
tests.benchmarks.tool_agent --json FILE``.

Same server, model, questions, sampling, longest reply, tool server and number of turns: a
question's ``tool_agent`` takes as many turns as the flow took for it. A turn is one call of the
model there and three here, and two more frame the trajectory, so calls are compared: seconds by
generated token, tokens served from the prefix cache, and what a call costs beyond server and tool.
The model is the quickstart's, which writes no tool calls of verl's form: a parser that finds one in
every reply stands in for that, as the program that it calls stands in for one that a model wrote.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

os.environ |= {"VERL_PLATFORM": "cpu", "RAY_worker_niceness": "0"}

import ray
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from transformers import AutoTokenizer
from verl.experimental.agent_loop.agent_loop import DictConfigWrap, ToolListWrap
from verl.experimental.agent_loop.tool_agent_loop import ToolAgentLoop
from verl.experimental.agent_loop.tool_parser import FunctionCall, ToolParser
from verl.tools.function_tool import FunctionTool
from verl.tools.schemas import OpenAIFunctionToolSchema
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.workers.rollout.llm_server import GlobalRequestLoadBalancer, LLMServerClient

from agentflow_verl.config.limits import Limits
from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.engines.token_engine import TokenEngine
from agentflow_verl.flow.loop import Flow
from agentflow_verl.flow.modules import MODULES
from agentflow_verl.flow.prompts import Prompts
from agentflow_verl.tools.embedded.supervisor import Supervisor
from agentflow_verl.tools.toolbox import ToolBox
from agentflow_verl.trainer.rollout.frozen_base import make_base, server_name

logger = logging.getLogger("tool_agent")
BASE = Path(__file__).parents[2] / "recipes" / "quickstart" / "base"
TURNS, LONGEST_REPLY, PROMPT, CONTEXT = 3, 64, 1024, 1536
TOOL, ARGUMENTS = "python_coder", {"code": "print(6 * 7)"}
SAMPLING = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": -1,
    "logprobs": 0,
    "max_tokens": LONGEST_REPLY,
}
SCHEMA = {
    "type": "function",
    "function": {
        "name": TOOL,
        "description": "Runs a Python program and returns what it prints.",
        "parameters": {
            "type": "object",
            "properties": {"code": {"type": "string"}},
            "required": ["code"],
        },
    },
}


@ToolParser.register("every_reply")
class EveryReply(ToolParser):
    async def extract_tool_calls(
        self, responses_ids: list[int], tools: Any = None
    ) -> tuple[str, list[FunctionCall]]:
        return self.tokenizer.decode(responses_ids, skip_special_tokens=True), [
            FunctionCall(name=TOOL, arguments=json.dumps(ARGUMENTS))
        ]


class Counted:
    """A client of rollout servers that notes its calls (prompt tokens, those from the cache, new
    tokens) and their seconds.
    """

    def __init__(self, client: LLMServerClient) -> None:
        self.client = client
        self.calls: list[tuple[int, int, int]] = []
        self.waited = 0.0

    async def generate(
        self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any], **_: Any
    ) -> Any:
        began = time.perf_counter()
        output = await self.client.generate(
            request_id, prompt_ids=prompt_ids, sampling_params=sampling_params
        )
        self.waited += time.perf_counter() - began
        self.calls.append(
            (len(prompt_ids), output.extra_fields["num_cached_tokens"] or 0, len(output.token_ids))
        )
        return output


class Arm:
    """One of the two loops. ``one`` is a trajectory; it returns its number of turns, and the
    seconds of its tools.
    """

    def __init__(
        self,
        client: LLMServerClient,
        one: Callable[[Counted, int, str], Awaitable[tuple[int, float]]],
    ) -> None:
        self.client, self.one = client, one

    async def round(self, questions: list[str], begun: int) -> dict[str, Any]:
        counted, beyond = Counted(self.client), []

        async def timed(number: int, question: str) -> int:
            began = time.perf_counter()
            turns, tools = await self.one(counted, number, question)
            beyond.append(time.perf_counter() - began - tools)
            return turns

        began = time.perf_counter()
        turns = await asyncio.gather(
            *(timed(begun + i, question) for i, question in enumerate(questions))
        )
        seconds = time.perf_counter() - began
        prompt, cached, new = (sum(call[i] for call in counted.calls) for i in range(3))
        return {
            "turns": turns,
            "seconds": seconds,
            "calls": len(counted.calls),
            "ms_a_generated_token": 1e3 * seconds / new,
            "generated_tokens_a_call": new / len(counted.calls),
            "prompt_tokens_a_call": prompt / len(counted.calls),
            "cached_share": cached / prompt,
            "ms_beyond_server_and_tool_a_call": (
                1e3 * (sum(beyond) - counted.waited) / len(counted.calls)
            ),
        }


def flow(
    tokenizer: Any, tools: ToolBox
) -> Callable[[Counted, int, str], Awaitable[tuple[int, float]]]:
    async def one(client: Counted, number: int, question: str) -> tuple[int, float]:
        policy = TokenEngine(
            "policy",
            tokenizer,
            client.generate,
            SAMPLING,
            prompt_limit=CONTEXT - LONGEST_REPLY,
            response_limit=LONGEST_REPLY,
        )
        trajectory = await Flow(
            dict.fromkeys(MODULES, policy),
            tools,
            Limits(max_turns=TURNS, memory_tokens=300),
            Prompts.from_folder(BASE.parent / "prompts"),
        ).run(question, f"flow_{number}")
        return len(trajectory.turns), trajectory.timings.get("tools", 0.0)

    return one


def tool_agent(
    config: Any, tokenizer: Any, tools: ToolBox, turns: dict[int, int]
) -> Callable[[Counted, int, str], Awaitable[tuple[int, float]]]:
    """verl's loop, with the tool server of the flow; ``turns`` are those to take, by the question's
    number.
    """

    async def one(client: Counted, number: int, question: str) -> tuple[int, float]:
        spent = 0.0

        async def call(code: str) -> str:
            nonlocal spent
            began = time.perf_counter()
            result = await tools.call(TOOL, {"code": code}, Deadline.after(60.0))
            spent += time.perf_counter() - began
            return result.text

        tool = FunctionTool(
            name=TOOL,
            fn=call,
            tool_schema=OpenAIFunctionToolSchema.model_validate(SCHEMA),
            is_async=True,
        )
        loop = ToolAgentLoop(
            trainer_config=DictConfigWrap(config),
            server_manager=client,
            tokenizer=tokenizer,
            processor=None,
            dataset_cls=RLHFDataset,
            data_config=DictConfigWrap(config.data),
            hf_model_type="llama",
            tools=ToolListWrap([tool]),
        )
        loop.max_assistant_turns = turns[number]
        await loop.run(dict(SAMPLING), raw_prompt=[{"role": "user", "content": question}])
        return turns[number], spent

    return one


async def measure(questions: int, rounds: int) -> dict[str, Any]:
    overrides = (
        *(
            "platform=cpu",
            f"actor_rollout_ref.model.path={BASE}",
            f"data.max_prompt_length={PROMPT}",
        ),
        *(
            f"data.max_response_length={CONTEXT - PROMPT}",
            f"actor_rollout_ref.rollout.max_model_len={CONTEXT}",
        ),
        "actor_rollout_ref.rollout.multi_turn.format=every_reply",
        # of the prefix cache: prompts here are shorter than 128
        "+actor_rollout_ref.rollout.engine_kwargs.vllm.block_size=16",
    )
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("agentflow", list(overrides))
    settings = OmegaConf.to_container(config.ray_kwargs.ray_init.runtime_env)
    ray.init("local", num_cpus=8, num_gpus=1, include_dashboard=False, runtime_env=settings)
    (replica,) = make_base(config, 1, LONGEST_REPLY)
    await replica.init_standalone()
    name = server_name(replica)
    balancer = (
        ray.remote(GlobalRequestLoadBalancer)
        .options(num_cpus=0)
        .remote({name: ray.get_actor(name)})
    )
    client, tokenizer = LLMServerClient(config, balancer), AutoTokenizer.from_pretrained(BASE)
    found: dict[str, list[dict[str, Any]]] = {"flow": [], "tool_agent": []}
    with Supervisor([ToolConfig(TOOL, args=("--jobs", "8"))]) as servers:
        async with await ToolBox.open(servers.configs) as tools:
            turns: dict[int, int] = {}
            arms = {
                "flow": Arm(client, flow(tokenizer, tools)),
                "tool_agent": Arm(client, tool_agent(config, tokenizer, tools, turns)),
            }
            for number in range(rounds + 1):
                texts = [
                    f"What is the greatest common divisor of {7 * i} and {5 * i + 5 * number}?"
                    for i in range(20, 20 + questions)
                ]
                for arm in arms:
                    one = await arms[arm].round(texts, number * questions)
                    turns.update(enumerate(one.pop("turns"), number * questions))
                    if number:  # the first warms up
                        found[arm].append(one)
    return {
        arm: {name: statistics.median(one[name] for one in each) for name in each[0]}
        for arm, each in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--questions", type=int, default=32, help="trajectories at once")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two rounds")
    given = parser.parse_args()
    if given.quick:
        given.rounds = 2
    found = asyncio.run(measure(given.questions, given.rounds))
    ray.shutdown()
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", force=True
    )  # verl and others have set it
    for arm, figures in found.items():
        logger.info(
            "%-10s %s", arm, json.dumps({name: round(value, 3) for name, value in figures.items()})
        )
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
