"""A real SGLang server of verl's, asked in ways that a run does, in a process of the CPU platform:
python -m tests.trainer.rollout.sglang_server. Its last line is what was seen, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

import psutil
from transformers import AutoTokenizer
from verl.workers.rollout.replica import RolloutMode

from agentflow_verl.trainer.actor_class import wrapped_class
from agentflow_verl.trainer.rollout import sglang_server
from tests.e2e.runs import BASE
from tests.trainer.preflight.runs import make_config

LONG = 800  # tokens, a few seconds
REQUESTS = 8


def make_server() -> Any:
    config = make_config(
        f"actor_rollout_ref.model.path={BASE}",
        "actor_rollout_ref.rollout.name=sglang",
        "actor_rollout_ref.rollout.load_format=auto",
        "actor_rollout_ref.rollout.free_cache_engine=true",  # or it would not sleep
        "actor_rollout_ref.rollout.max_model_len=1024",
    ).actor_rollout_ref
    replica_class: Any = sglang_server._load()
    replica = replica_class(0, config.rollout, config.model, gpus_per_node=1)
    return wrapped_class(replica.server_class)(
        config=config.rollout,
        model_config=config.model,
        rollout_mode=RolloutMode.HYBRID,
        workers=[],
        replica_rank=0,
        node_rank=0,
        nnodes=1,
        cuda_visible_devices="0",
        base_gpu_id=0,
    )


class Trial:
    def __init__(self, server: Any):
        self.server = server
        tokenizer = AutoTokenizer.from_pretrained(BASE)
        self.prompt = tokenizer.encode("What is the greatest common divisor of 35 and 49?")

    async def reply(self, name: str) -> Any:
        greedy = {"temperature": 0.0, "max_tokens": 8, "logprobs": True}
        return await self.server.generate(self.prompt, greedy, name)

    def endless(self, name: str) -> asyncio.Task[Any]:
        return asyncio.create_task(
            self.server.generate(self.prompt, {"max_tokens": LONG, "ignore_eos": True}, name)
        )

    def at_work(self) -> int:
        return len(self.server.tokenizer_manager.rid_to_state)

    async def until_idle(self) -> float:
        start = time.monotonic()
        while self.at_work() and time.monotonic() < start + 30:
            await asyncio.sleep(0.05)
        return time.monotonic() - start

    async def whole(self) -> float:
        """Seconds that ``REQUESTS`` take to their end."""
        start = time.monotonic()
        await asyncio.gather(*(self.endless(f"whole-{n}") for n in range(REQUESTS)))
        return time.monotonic() - start

    async def cancelled(self) -> float:
        """Seconds after which nothing is left of requests that were cancelled."""
        requests = [self.endless(f"cancelled-{n}") for n in range(REQUESTS)]
        await asyncio.sleep(0.5)
        assert self.at_work() == REQUESTS
        for request in requests:
            request.cancel()
        results = await asyncio.gather(*requests, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        return await self.until_idle()

    async def cancelled_while_paused(self) -> float:
        """The same, of one that is held back while the weights are updated."""
        await self.server.abort_all_requests()
        request = self.endless("paused")
        await asyncio.sleep(0.2)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        await self.server.resume_generation()
        return await self.until_idle()

    async def asleep(self) -> None:
        """Put to sleep right after a cancellation, as a sync run does, and woken up."""
        request = self.endless("sleep")
        await asyncio.sleep(0.5)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        await self.server.sleep()
        from sglang.srt.managers.io_struct import ResumeMemoryOccupationReqInput

        await self.server.tokenizer_manager.resume_memory_occupation(
            ResumeMemoryOccupationReqInput(tags=["kv_cache", "weights"]), None
        )


async def main() -> None:
    trial = Trial(make_server())
    await trial.server.launch_server()
    first, second = await trial.reply("first"), await trial.reply("second")
    found: dict[str, Any] = {
        "prompt": len(trial.prompt),
        "cached": [reply.extra_fields.get("num_cached_tokens") for reply in (first, second)],
        "same": first.token_ids == second.token_ids and len(first.log_probs) == 8,
        "whole_s": await trial.whole(),
        "cancelled_s": await trial.cancelled(),
        "paused_s": await trial.cancelled_while_paused(),
    }
    await trial.asleep()
    found["after_sleep"] = (await trial.reply("third")).token_ids == first.token_ids
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    finally:
        for child in psutil.Process().children(recursive=True):
            child.kill()
        os._exit(0)  # SGLang's threads do not end
