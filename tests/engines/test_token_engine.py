"""Token in, token out: what is sent and what comes back is recorded as it is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import InfraError, OutOfTime, PromptTooLong
from agentflow_verl.core.interruptions import Interruptions
from agentflow_verl.engines import token_engine
from agentflow_verl.engines.token_engine import TokenEngine
from tests.engines import tokenizers

TOKENIZER = tokenizers.make()
MESSAGES = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "abc?"}]


@dataclass
class Output:
    """As verl's TokenOutput."""

    token_ids: list[int]
    log_probs: list[float] | None = None
    stop_reason: str | None = "completed"
    extra_fields: dict[str, Any] = field(default_factory=dict)


class Server:
    """A ``generate`` that gives ``answer`` and notes what it was asked."""

    def __init__(self, answer: Any = None):
        self.answer = Output([1, 2, 3], [-0.1, -0.2, -0.3]) if answer is None else answer
        self.asked: list[tuple[str, list[int], dict[str, Any]]] = []
        self.cancelled = False

    async def generate(
        self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any]
    ) -> Output:
        self.asked.append((request_id, list(prompt_ids), dict(sampling_params)))
        sampling_params["temperature"] = "spoilt"  # verl's server pops from what it is given
        try:
            long = self.answer == "is long" and sampling_params.get("max_tokens") != 1
            await (asyncio.Event().wait() if self.answer == "hang" or long else asyncio.sleep(0))
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def engine(server: Server, template: str = tokenizers.CHAT, **changed: Any) -> TokenEngine:
    arguments = {
        "sampling": {"temperature": 0.5, "top_p": 0.9, "logprobs": True},
        "prompt_limit": 1000,
        "response_limit": 8,
    }
    tokenizer = TOKENIZER if template is tokenizers.CHAT else tokenizers.make(template)
    return TokenEngine("policy", tokenizer, server.generate, **{**arguments, **changed})


async def ask(engine: TokenEngine, seconds: float = 5.0, trajectory: str = "t0"):
    return await engine.reply(MESSAGES, trajectory=trajectory, deadline=Deadline.after(seconds))


async def test_the_ids_that_are_recorded_are_the_ids_that_were_sent():
    server = Server()
    reply = await ask(engine(server))
    ((request_id, sent, _),) = server.asked
    assert list(reply.prompt_ids) == sent
    assert request_id == "t0"
    assert (
        TOKENIZER.decode(sent)
        == "<|start|>system\nBe short.<|end|>\n<|start|>user\nabc?<|end|>\n<|start|>assistant\n"
    )
    assert reply.prompt_tokens == len(sent)


async def test_the_sampled_ids_are_recorded_although_their_text_would_be_encoded_otherwise():
    a, b, c = (TOKENIZER.convert_tokens_to_ids(letter) for letter in "abc")
    reply = await ask(engine(Server(Output([a, b, c], [-1.0, -2.0, float("-inf")]))))
    assert reply.text == "abc"
    assert len(TOKENIZER.encode(reply.text)) == 1, "encoding the text again gives another sequence"
    assert reply.response_ids == (a, b, c)
    assert reply.logprobs == (-1.0, -2.0, float("-inf"))
    assert reply.response_tokens == 3


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, len(TOKENIZER) - 1), min_size=1, max_size=12), st.booleans())
def test_any_sampled_ids_come_through(ids, with_logprobs):
    logprobs = [-0.5] * len(ids) if with_logprobs else None
    reply = asyncio.run(ask(engine(Server(Output(ids, logprobs)))))
    assert reply.response_ids == tuple(ids)
    assert reply.logprobs == tuple(logprobs or ())
    reply.text.encode()


async def test_special_tokens_are_in_the_ids_and_not_in_the_text():
    end = TOKENIZER.eos_token_id
    reply = await ask(engine(Server(Output([TOKENIZER.convert_tokens_to_ids("a"), end]))))
    assert (reply.text, reply.response_ids[-1]) == ("a", end)


async def test_nothing_encodes_a_reply(monkeypatch):
    used = engine(Server())
    prompt_ids = used.encode(MESSAGES)
    monkeypatch.setattr(used, "encode", lambda messages: list(prompt_ids))
    monkeypatch.setattr(type(TOKENIZER), "encode", None)
    monkeypatch.setattr(type(TOKENIZER), "__call__", None)
    assert (await ask(used)).response_ids == (1, 2, 3)


async def test_sampling_parameters_go_out_unchanged_every_time():
    server = Server()
    used = engine(server)
    await ask(used)
    await ask(used)
    assert [sampling for _, _, sampling in server.asked] == [
        {"temperature": 0.5, "top_p": 0.9, "logprobs": True}
    ] * 2


async def test_schema_goes_out_in_the_servers_words_and_only_with_its_own_call():
    server = Server()
    structured = engine(server, schema_sampling=lambda schema: {"guided": dict(schema)})
    schema = {"type": "object"}
    for wanted in (schema, None):
        await structured.reply(MESSAGES, trajectory="t0", deadline=Deadline.after(5), schema=wanted)
    first, second = (sampling for _, _, sampling in server.asked)
    assert structured.structured
    assert first == {**second, "guided": schema}


async def test_engine_without_words_for_a_schema_ignores_it():
    server = Server()
    plain = engine(server)
    await plain.reply(MESSAGES, trajectory="t0", deadline=Deadline.after(5), schema={})
    assert not plain.structured
    assert server.asked[0][2] == plain.sampling


async def test_what_the_server_says_about_weights_and_cache_is_kept():
    facts = {"min_global_steps": 7, "max_global_steps": 8, "num_cached_tokens": 5}
    reply = await ask(engine(Server(Output([1], extra_fields=facts))))
    assert (reply.weights_first, reply.weights_last, reply.cached_tokens) == (7, 8, 5)
    reply = await ask(engine(Server()))
    assert (reply.weights_first, reply.weights_last, reply.cached_tokens) == (None, None, None)


@pytest.mark.parametrize(("length", "cut"), [(7, False), (8, True)])
async def test_a_reply_as_long_as_its_limit_was_cut(length, cut):
    assert (await ask(engine(Server(Output([1] * length))))).cut is cut


async def test_a_template_without_a_system_role_gets_one_user_message():
    server = Server()
    await ask(engine(server, tokenizers.WITHOUT_SYSTEM))
    assert (
        TOKENIZER.decode(server.asked[0][1])
        == "<|start|>user\nBe short.\n\nabc?<|end|>\n<|start|>assistant\n"
    )


async def test_a_template_that_fails_either_way_is_an_infra_error():
    with pytest.raises(InfraError, match="chat template.*never"):
        await ask(engine(Server(), "{{ raise_exception('never') }}"))


async def test_template_arguments_reach_the_template():
    server = Server()
    await ask(engine(server, template_kwargs={"enable_thinking": False}))
    assert TOKENIZER.decode(server.asked[0][1]).endswith("<no-thinking>")


async def test_a_prompt_over_the_limit_is_refused_before_anything_is_sent():
    server = Server()
    length = len(engine(server).encode(MESSAGES))
    assert len(engine(server, prompt_limit=length).encode(MESSAGES)) == length
    with pytest.raises(PromptTooLong, match=f"policy.*{length} tokens, the limit is {length - 1}"):
        await ask(engine(server, prompt_limit=length - 1))
    assert not server.asked


@pytest.mark.parametrize(
    "fault", [RuntimeError("actor died"), ConnectionResetError("gone"), asyncio.TimeoutError("rpc")]
)
async def test_whatever_the_server_raises_is_an_infra_error(fault):
    with pytest.raises(InfraError, match=f"engine policy: {type(fault).__name__}: {fault}"):
        await ask(engine(Server(fault)))


async def test_an_empty_reply_is_an_infra_error():
    with pytest.raises(InfraError, match="empty reply.*aborted"):
        await ask(engine(Server(Output([], stop_reason="aborted"))))


async def test_a_deadline_cancels_the_request_at_its_source():
    server = Server("is long")
    with pytest.raises(OutOfTime, match="engine policy"):
        await ask(engine(server), seconds=0.5)
    assert server.cancelled


async def test_a_server_that_hangs_is_a_fault_and_no_end_of_the_budget(monkeypatch):
    monkeypatch.setattr(token_engine, "PROBE_S", 0.05)
    server = Server("hang")
    with pytest.raises(InfraError, match="engine policy ran past its deadline, and its server"):
        await ask(engine(server), seconds=0.05)
    asked_again = server.asked[-1]
    assert asked_again[0] == server.asked[0][0], "the same trajectory, and so the same server"
    assert (len(asked_again[1]), asked_again[2]["max_tokens"]) == (1, 1)


async def test_a_call_that_the_trainer_holds_up_has_its_whole_budget_afterwards():
    servers, server = Interruptions(), Server("is long")
    servers.suspend()
    deadline = Deadline.after(0.1)
    held = engine(server, interruptions=servers)
    call = asyncio.create_task(held.reply(MESSAGES, trajectory="g_0", deadline=deadline))
    await asyncio.sleep(0.4)
    assert not call.done()
    servers.resume()
    with pytest.raises(OutOfTime):
        await call
    assert deadline.clock.paused_s > 0.25


async def test_a_cancelled_trajectory_cancels_the_request():
    server = Server("hang")
    task = asyncio.create_task(ask(engine(server)))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.cancelled


def test_count_is_the_tokenizers_without_special_tokens():
    assert engine(Server()).count("abcab") == 2
    assert engine(Server()).count("") == 0
