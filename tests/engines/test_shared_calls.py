"""A deterministic engine behind SharedCalls is asked once for equal prompts."""

from __future__ import annotations

import asyncio
from typing import Any

from agentflow_verl.core.deadline import Deadline
from agentflow_verl.engines.interface import Message, Reply
from agentflow_verl.engines.shared_calls import SharedCalls


class Echo:
    """Replies with the prompt, and counts."""

    name, structured, has_tokenizer, is_greedy = "base", True, False, True

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    def is_hang(self, waited_s: float) -> bool:
        return False

    def count(self, text: str) -> int:
        return len(text)

    async def reply(self, messages: list[Message], *, trajectory: str, deadline, schema=None):
        self.asked.append((trajectory, schema))
        await asyncio.sleep(0.01)
        text = messages[-1]["content"]
        return Reply(text, "base", prompt_ids=(1, 2), response_ids=(3,), response_tokens=1)


def prompt(text: str) -> list[Message]:
    return [{"role": "system", "content": "be"}, {"role": "user", "content": text}]


async def ask(engine: SharedCalls, text: str, trajectory: str, schema: Any = None) -> Reply:
    return await engine.reply(
        prompt(text), trajectory=trajectory, deadline=Deadline.after(30), schema=schema
    )


async def test_a_group_pays_its_analysis_once():
    engine = Echo()
    shared = SharedCalls(engine)
    replies = await asyncio.gather(*(ask(shared, "q", f"t{n}") for n in range(8)))
    counted = [reply.shared for reply in replies]
    assert len(engine.asked) == 1 and counted.count(True) == 7
    assert {reply.text for reply in replies} == {"q"}
    assert not any(reply.prompt_ids or reply.response_ids for reply in replies)


async def test_another_prompt_or_schema_is_another_call():
    engine = Echo()
    shared = SharedCalls(engine)
    for text, schema in (("a", None), ("b", None), ("a", {"type": "object"}), ("a", None)):
        await ask(shared, text, "t", schema)
    assert len(engine.asked) == 3


async def test_an_engine_that_turns_out_to_sample_is_asked_each_time():
    """An endpoint that refuses to be told a temperature samples at its own."""
    engine = Echo()
    shared = SharedCalls(engine)
    await ask(shared, "q", "t0")
    engine.is_greedy = False
    assert not (await ask(shared, "q", "t1")).shared
    assert len(engine.asked) == 2


def test_it_is_otherwise_the_engine():
    shared = SharedCalls(Echo())
    assert (shared.name, shared.structured, shared.count("four")) == ("base", True, 4)
