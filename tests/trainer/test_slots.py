"""Which engine answers a module is a line of configuration, and whatever it is, only tokens of the
modules in ``agentflow.train`` are trained.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from agentflow_verl.config import schema
from agentflow_verl.engines.token_engine import TokenEngine
from agentflow_verl.flow.modules import MODULES
from agentflow_verl.trainer.rollout.agent_loop import AgentflowLoop
from agentflow_verl.trainer.rollout.services import Services
from tests.engines import tokenizers
from tests.flow.fakes import ANSWER, CALL, PLAN, STOP, ScriptedEngine, ScriptedTools

TOKENIZER = tokenizers.make()
SAYS = {
    "You prepare": "Double it.",
    "You plan": PLAN,
    "You turn": CALL,
    "You judge": STOP,
    "You write": ANSWER,
}  # by a prompt's first words
KINDS = ("policy", "base", "judge")


async def generate(
    request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any], adapter: bool = True
) -> Any:
    """A rollout server: the right reply to any module."""
    prompt = TOKENIZER.decode(prompt_ids)
    ids = TOKENIZER.encode(next(text for start, text in SAYS.items() if start in prompt))
    return SimpleNamespace(
        token_ids=ids,
        log_probs=[-0.1] * len(ids),
        stop_reason="completed",
        extra_fields={"num_cached_tokens": 1},
    )


def loop_of(train: tuple[str, ...] = ("planner",), **slots: str) -> AgentflowLoop:
    """The agent loop of a run with ``agentflow.engines`` as given."""
    config = schema.load(
        {
            "train": list(train),
            "engines": slots,
            "endpoints": {"judge": {"base_url": "http://x/v1", "model": "m"}},
            "tools": {"python_coder": {}},
        }
    )
    module = next((module for module, name in slots.items() if name == "judge"), "verifier")
    engines = {
        "base": TokenEngine(
            "base", TOKENIZER, generate, {}, prompt_limit=10_000, response_limit=1000
        ),
        "judge": ScriptedEngine("judge", dict(zip(MODULES, SAYS.values()))[module]),
    }
    loop = object.__new__(AgentflowLoop)
    loop.services = Services(config, engines, ScriptedTools("4"), None)
    loop.tokenizer, loop.apply_chat_template_kwargs = TOKENIZER, {}
    loop.server_manager = SimpleNamespace(generate=generate)
    loop.rollout_config = SimpleNamespace(
        response_length=1000, prompt_length=10_000, full_determinism=False
    )
    return loop


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("module", [module for module in MODULES if module != "planner"])
async def test_a_slot_is_switched_by_its_key_alone_and_adds_no_token_to_the_rows(
    module: str, kind: str
) -> None:
    rows = await loop_of(**{module: kind}).run(
        {"temperature": 1.0},
        raw_prompt=[{"role": "user", "content": "2 * 2?"}],
        uid="u",
        session_id=0,
        global_steps=1,
    )
    trajectory = rows[-1].extra_fields["agentflow_trajectory"]
    answered_by = {reply.module: reply.engine for reply in trajectory.all_replies()}
    assert answered_by == {
        **{other: "base" for other in MODULES},
        "planner": "policy",
        module: kind,
    }
    assert [TOKENIZER.decode(row.response_ids) for row in rows] == [PLAN]
    assert all(row.response_mask == [1] * len(row.response_ids) for row in rows)


async def test_the_planner_is_what_is_trained_even_where_every_module_is_the_policy() -> None:
    rows = await loop_of(**dict.fromkeys(MODULES, "policy")).run(
        {"temperature": 1.0},
        raw_prompt=[{"role": "user", "content": "2 * 2?"}],
        uid="u",
        session_id=0,
        global_steps=1,
    )
    assert [TOKENIZER.decode(row.response_ids) for row in rows] == [PLAN]


async def test_each_module_that_is_named_is_trained_on_the_tokens_it_sampled() -> None:
    trained = ("executor", "planner", "generator")
    loop = loop_of(trained, **dict.fromkeys(MODULES, "policy"))
    rows = await loop.run(
        {"temperature": 1.0},
        raw_prompt=[{"role": "user", "content": "2 * 2?"}],
        uid="u",
        session_id=0,
        global_steps=1,
    )
    found = [
        (row.extra_fields["agentflow"].module, TOKENIZER.decode(row.response_ids)) for row in rows
    ]
    assert found == [("planner", PLAN), ("executor", CALL), ("generator", ANSWER)]
    assert all(row.response_mask == [1] * len(row.response_ids) for row in rows)
