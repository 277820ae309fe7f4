"""A frozen engine at temperature 0, asked once for equal prompts.

The trajectories of a group begin with one and the same analysis; further on, those that did the
same ask the same. The frozen model does not change within a run, so an answer is good for all of
it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.interruptions import Interruptions
from agentflow_verl.core.single_flight import SingleFlight
from agentflow_verl.engines.interface import Engine, Message, Reply

KEPT = 4096
"""Replies that a process remembers: a few kilobytes each."""


class GreedyEngine(Engine, Protocol):
    """An engine that says whether its replies follow from the prompt alone."""

    @property
    def is_greedy(self) -> bool:
        """False from the moment in which it learns that they do not."""

    def is_hang(self, waited_s: float) -> bool:
        """Whether so many seconds without an answer are its server's fault."""


class SharedCalls:
    """``engine``, asked once for equal prompts while it is greedy. ``interruptions``: as the
    engine's own, of the trainer that may hold its servers up.
    """

    def __init__(self, engine: GreedyEngine, interruptions: Interruptions | None = None):
        self.engine = engine
        holding = interruptions or Interruptions()
        self._calls = SingleFlight[Reply](
            KEPT, lambda deadline: holding.waiting(deadline.clock), engine.is_hang
        )

    @property
    def name(self) -> str:
        return self.engine.name

    @property
    def structured(self) -> bool:
        return self.engine.structured

    @property
    def has_tokenizer(self) -> bool:
        return self.engine.has_tokenizer

    def count(self, text: str) -> int:
        return self.engine.count(text)

    async def reply(
        self,
        messages: list[Message],
        *,
        trajectory: str,
        deadline: Deadline,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        async def call() -> Reply:
            reply = await self.engine.reply(
                messages, trajectory=trajectory, deadline=deadline, schema=schema
            )
            # A frozen module's ids train nothing, and would be most of what is kept.
            return replace(reply, prompt_ids=(), response_ids=(), logprobs=())

        if not self.engine.is_greedy:
            return await call()
        asked = json.dumps([messages, schema], sort_keys=True).encode()
        reply, is_shared = await self._calls.ask(hashlib.sha256(asked).digest(), call, deadline)
        if is_shared and not self.engine.is_greedy:  # learnt by the call that was waited for
            return await call()
        return replace(reply, shared=True) if is_shared else reply
