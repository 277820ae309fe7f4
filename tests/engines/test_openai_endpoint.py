"""An OpenAI-compatible endpoint, against a real HTTP server that misbehaves in every way that was
met.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow_verl.config.endpoint import EndpointConfig
from agentflow_verl.core import retry
from agentflow_verl.core import server_pool as pool
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import ConfigError, InfraError, OutOfTime, PromptTooLong
from agentflow_verl.engines.interface import Reply
from agentflow_verl.engines.openai_endpoint import EndpointEngine

MESSAGES = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "2 * 2?"}]
KEY = "sk-not-a-real-key-1234"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def completion(content: Any = "4", **more: Any) -> dict[str, Any]:
    usage = {
        "prompt_tokens": 12,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 8},
    }
    return {
        "choices": [
            {"message": {"role": "assistant", "content": content}, "finish_reason": "stop", **more}
        ],
        "usage": usage,
    }


async def good(request: web.Request) -> web.Response:
    return web.json_response(completion())


def status(code: int, text: str = "no", **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=code, text=text, headers=headers)

    return answer


def says(text: str) -> Answer:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=text, content_type="application/json")

    return answer


async def hangs_up(request: web.Request) -> web.Response:
    request.transport.close()
    return web.Response()


class Endpoint:
    """A server that plays ``script``, the last step for ever, and counts."""

    def __init__(self) -> None:
        self.script: list[Answer] = [good]
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self.now = self.most = self.cancelled = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        self.headers.append(request.headers)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await (self.script.pop(0) if len(self.script) > 1 else self.script[0])(request)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.now -= 1


@pytest_asyncio.fixture
async def served() -> AsyncIterator[tuple[Endpoint, Callable[..., EndpointEngine]]]:
    """The server, and a maker of engines for it."""
    script = Endpoint()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", script.handle)
    server = TestServer(app, handler_cancellation=True)
    await server.start_server()
    session = aiohttp.ClientSession()

    def make(**changed: Any) -> EndpointEngine:
        config = EndpointConfig(
            **{"base_url": str(server.make_url("/v1")), "model": "m", "retries": 2, **changed}
        )
        return EndpointEngine("judge", config, session)

    yield script, make
    await session.close()
    await server.close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry.random, "uniform", lambda low, high: 0.01)


async def ask(engine: EndpointEngine, seconds: float = 20.0) -> Reply:
    return await engine.reply(MESSAGES, trajectory="t0", deadline=Deadline.after(seconds))


async def test_a_reply_with_its_figures(served):
    script, make = served
    reply = await ask(make(temperature=0.3, max_tokens=77))
    expected = Reply(text="4", engine="judge", prompt_tokens=12, response_tokens=3, cached_tokens=8)
    assert reply == expected
    assert script.bodies == [
        {"model": "m", "messages": MESSAGES, "temperature": 0.3, "max_tokens": 77}
    ]


async def test_a_seed_is_of_the_call_and_the_same_in_every_run(served):
    script, make = served

    async def seed(number: int, trajectory: str, text: str) -> int:
        messages = [MESSAGES[0], {"role": "user", "content": text}]
        await make(seed=number).reply(
            messages, trajectory=trajectory, deadline=Deadline.after(20.0)
        )
        return script.bodies[-1]["seed"]

    calls = [
        (0, "t0", "one turn left"),
        (0, "t0", "two turns left"),
        (0, "t1", "one turn left"),
        (1, "t0", "one turn left"),
    ]
    seeds = [await seed(*call) for call in calls]
    assert len(set(seeds)) == len(calls) and all(0 <= found < 2**32 for found in seeds)
    assert [await seed(*call) for call in calls] == seeds


async def test_a_base_url_may_end_in_a_slash(served):
    script, make = served
    plain = make()
    assert (await ask(make(base_url=plain.config.base_url + "/"))).text == "4"


async def test_a_reply_at_its_token_limit_was_cut(served):
    script, make = served
    script.script = [says(json.dumps(completion(finish_reason="length")))]
    assert (await ask(make())).cut


async def test_usage_may_be_missing(served):
    script, make = served
    for usage in ("{}", "null", '{"prompt_tokens": null, "prompt_tokens_details": null}'):
        script.script = [
            says('{"choices": [{"message": {"content": null}}], "usage": ' + usage + "}")
        ]
        reply = await ask(make())
        assert (reply.text, reply.prompt_tokens, reply.cached_tokens) == ("", 0, None)


async def test_text_is_well_formed_whatever_the_json_spells(served):
    script, make = served
    script.script = [says(r'{"choices": [{"message": {"content": "\ud83d and \ud83d\ude00"}}]}')]
    assert (await ask(make())).text == "\ufffd and \U0001f600"


@pytest.mark.parametrize(
    "fault",
    [
        *(status(code) for code in (408, 409, 425, 429, 500, 502, 503, 504, 529)),
        hangs_up,
        says("<html>busy</html>"),
        says('{"choices": []}'),
        says('{"error": "overloaded"}'),
        says('{"choices": [{"message": {"content": "4"}}], "usage": "none"}'),
        says('{"choices": [{"message": {"content": {"text": "4"}}}]}'),
        says('{"choices": [{"message": "4"}]}'),
        says('{"choices": [{"message": {"content": "4"}}], "usage": {"prompt_tokens": 1e999}}'),
        says('{"choices": ' + "[" * 100_000),
        says("[]"),
        says("null"),
        says("\xff\xfe"),
        says(""),
    ],
)
async def test_a_fault_is_tried_again(served, fault):
    script, make = served
    script.script = [fault, fault, good]
    assert (await ask(make())).text == "4"
    assert len(script.bodies) == 3


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (status(503), "HTTP 503"),
        (status(529), "HTTP 529"),
        (hangs_up, "Disconnected"),
        (says("<html>"), "JSON"),
        (says("{}"), "choices"),
    ],
)
async def test_a_fault_that_stays_is_an_infra_error(served, fault, named):
    script, make = served
    script.script = [fault]
    with pytest.raises(InfraError, match=f"endpoint judge: .*{named}.*attempt 3, giving up"):
        await ask(make())
    assert len(script.bodies) == 3


async def test_no_server_at_all_is_an_infra_error(served):
    script, make = served
    with pytest.raises(InfraError, match="endpoint judge: ClientConnector"):
        await ask(make(base_url="http://127.0.0.1:9/v1", retries=1))


@pytest.mark.parametrize("code", [401, 403, 404, 422])
async def test_what_another_attempt_cannot_help_is_not_tried_again(served, code):
    script, make = served
    script.script = [status(code, "wrong model")]
    with pytest.raises(InfraError, match=f"HTTP {code}: wrong model") as raised:
        await ask(make())
    assert not isinstance(raised.value, PromptTooLong)
    assert len(script.bodies) == 1


@pytest.mark.parametrize(
    "text",
    ["This model's maximum context length is 4096 tokens", '{"code": "context_length_exceeded"}'],
)
async def test_an_overlong_prompt_is_told_apart(served, text):
    script, make = served
    script.script = [status(400, text)]
    with pytest.raises(PromptTooLong, match="context"):
        await ask(make())
    assert len(script.bodies) == 1


async def test_another_bad_request_is_an_infra_error(served):
    script, make = served
    script.script = [status(400, "unknown field")]
    with pytest.raises(InfraError, match="HTTP 400: unknown field") as raised:
        await ask(make())
    assert not isinstance(raised.value, PromptTooLong)


async def test_the_server_may_say_when_to_come_back(served, monkeypatch):
    script, make = served
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    script.script = [
        *(status(429, **{"Retry-After": after}) for after in ("7", "999", "soon")),
        good,
    ]
    monkeypatch.setattr(pool.asyncio, "sleep", sleep)
    await ask(make(retries=3), seconds=100.0)
    assert waited[:2] == pytest.approx([7.0, 30.0], abs=0.1)
    assert waited[2] < 1


# ---- time ----


async def never(request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    return web.Response()


async def test_a_deadline_ends_the_request_at_the_server_too(served):
    script, make = served
    script.script = [never]
    with pytest.raises(InfraError, match="endpoint judge: no answer before the deadline"):
        await ask(make(), seconds=0.1)
    for _ in range(100):
        if script.cancelled:
            break
        await asyncio.sleep(0.02)
    assert script.cancelled == 1


@pytest.mark.parametrize(("pause", "then"), [(100.0, good), (0.01, never)])
async def test_time_that_runs_out_after_a_fault_is_the_endpoints_fault(
    served, monkeypatch, pause, then
):
    """The trajectory is then left out, not scored: whether the next attempt comes too late or does
    not end.
    """
    script, make = served
    monkeypatch.setattr(retry.random, "uniform", lambda low, high: pause)
    script.script = [status(503), then]
    with pytest.raises(InfraError, match="endpoint judge: (HTTP 503|no answer)"):
        await ask(make(), seconds=0.5)


def after(seconds: float) -> Answer:
    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(seconds)
        return await good(request)

    return slow


async def test_endpoint_that_is_given_less_time_than_it_took_before_is_not_at_fault(served):
    """The trajectory came late: what used its budget up was before this call."""
    script, make = served
    script.script = [after(0.5), never]
    engine = make()
    await ask(engine)
    with pytest.raises(OutOfTime, match="endpoint judge: no answer before the deadline"):
        await ask(engine, seconds=0.2)


async def test_endpoint_that_is_silent_for_longer_than_it_ever_took_is_at_fault(served):
    script, make = served
    script.script = [good, never]
    engine = make()
    await ask(engine)
    with pytest.raises(InfraError, match="endpoint judge: no answer before the deadline"):
        await ask(engine, seconds=2.0)


async def test_deadline_that_passed_before_the_call_is_the_trajectorys(served):
    script, make = served
    with pytest.raises(OutOfTime):
        await ask(make(), seconds=-1.0)
    assert not script.bodies


async def test_waiting_for_a_slot_of_an_endpoint_that_hangs_is_the_endpoints_fault(served):
    script, make = served
    script.script = [never]
    engine = make(concurrency=1)
    waiting = [asyncio.create_task(ask(engine, seconds=0.3)) for _ in range(3)]
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(end) for end in ended] == [InfraError] * 3


async def test_one_slow_attempt_is_given_up_for_the_next(served):
    script, make = served
    script.script = [never, good]
    assert (await ask(make(timeout_s=0.2))).text == "4"


# ---- parameters ----


def refuses(answer: str | dict[str, Any], *names: str, code: int = 400) -> Answer:
    """Answers with this error while the request has any of the parameters."""
    text = answer if isinstance(answer, str) else json.dumps(answer)

    async def picky(request: web.Request) -> web.Response:
        if set(names) & set(await request.json()):
            return web.Response(status=code, text=text)
        return await good(request)

    return picky


OPENAI = {
    "error": {
        "message": "Unsupported value: 'temperature' does not support 0.0 with this model.",
        "type": "invalid_request_error",
        "param": "temperature",
        "code": "unsupported_value",
    }
}
FASTAPI = {
    "detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "no", "input": 1}]
}
ECHO = {
    "detail": [{"loc": ["body", "seed"], "msg": "no", "input": {"temperature": 0, "max_tokens": 3}}]
}


@pytest.mark.parametrize(
    ("answer", "refused", "code"),
    [
        (OPENAI, "temperature", 400),
        (FASTAPI, "seed", 422),
        (ECHO, "seed", 422),
        ({"object": "error", "message": {"detail": FASTAPI["detail"]}}, "seed", 422),
        ({"error": {"message": "property 'seed' is unsupported", "param": None}}, "seed", 400),
        ("Unrecognized request argument supplied: seed", "seed", 400),
        ({"message": "max_tokens: unknown field", "code": 400}, "max_tokens", 400),
    ],
)
async def test_refused_parameter_is_left_out_from_then_on_and_said_once(
    served, caplog, answer, refused, code
):
    script, make = served
    script.script = [refuses(answer, refused, code=code)]
    engine = make(seed=1, retries=0)
    for _ in range(3):
        assert (await ask(engine)).text == "4"
    every = {"model", "messages", "temperature", "max_tokens", "seed"}
    assert [set(body) for body in script.bodies] == [every, *[every - {refused}] * 3]
    assert caplog.text.count(f"endpoint judge refuses {refused}") == 1


async def test_several_refused_parameters_are_found_one_by_one(served):
    script, make = served

    async def picky(request: web.Request) -> web.Response:
        for name in ("seed", "temperature"):
            if name in await request.json():
                return web.Response(status=400, text=f"unknown argument {name}")
        return await good(request)

    script.script = [picky]
    await ask(make(seed=1, retries=0))
    assert set(script.bodies[-1]) == {"model", "messages", "max_tokens"}


async def test_reply_limit_goes_by_its_newer_name_where_that_is_asked_for(served, caplog):
    script, make = served
    answer = "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    script.script = [refuses(answer, "max_tokens")]
    engine = make(max_tokens=77, retries=0)
    for _ in range(2):
        await ask(engine)
    assert [body.get("max_completion_tokens") for body in script.bodies] == [None, 77, 77]
    assert caplog.text.count("takes max_tokens as max_completion_tokens") == 1


async def test_error_that_names_no_parameter_drops_none(served):
    script, make = served
    script.script = [refuses({"detail": [{"loc": ["body", "messages"], "msg": "x"}]}, "model")]
    with pytest.raises(InfraError, match="HTTP 400"):
        await ask(make(seed=1))
    assert len(script.bodies) == 1


async def test_limit_beyond_the_context_is_a_prompt_too_long_and_drops_nothing(served):
    script, make = served
    text = "'max_tokens' is too large: 99. This model's maximum context length is 64 tokens"
    script.script = [refuses(text, "model")]
    with pytest.raises(PromptTooLong):
        await ask(make())
    assert len(script.bodies) == 1


async def test_what_the_configuration_adds_is_sent_as_it_is(served):
    script, make = served
    engine = make(
        chat_template_kwargs={"enable_thinking": False},
        extra_body={"top_k": 20, "reasoning": {"effort": "low"}, "temperature": None},
    )
    await ask(engine)
    (body,) = script.bodies
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert (body["top_k"], body["reasoning"]) == (20, {"effort": "low"})
    assert "temperature" not in body


@pytest.mark.parametrize("name", ["messages", "model", "stream", "n"])
def test_what_agentflow_sets_itself_cannot_be_added(name):
    with pytest.raises(ValueError, match=f"'{name}' is set by agentflow"):
        EndpointConfig(base_url="http://x/v1", model="m", extra_body={name: 1})


# ---- load ----


async def test_no_more_requests_in_flight_than_configured(served):
    script, make = served

    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(0.02)
        return await good(request)

    script.script = [slow]
    engine = make(concurrency=3)
    await asyncio.gather(*(ask(engine) for _ in range(12)))
    assert script.most == 3
    assert len(script.bodies) == 12


async def test_waiting_for_the_next_attempt_holds_no_slot(served, monkeypatch):
    script, make = served
    monkeypatch.setattr(
        retry.random, "uniform", lambda low, high: 4.0
    )  # the failed one waits for a second
    script.script = [status(503), good]
    engine = make(concurrency=1)
    failing = asyncio.create_task(ask(engine))
    while len(script.bodies) < 1:
        await asyncio.sleep(0.01)
    await ask(engine, seconds=0.8)
    assert not failing.done()
    await failing


# ---- the key ----


async def test_the_key_comes_from_the_environment_and_shows_nowhere(served, monkeypatch, caplog):
    script, make = served
    monkeypatch.setenv("JUDGE_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    engine = make(api_key_env="JUDGE_KEY")
    await ask(engine)
    assert script.headers[0]["Authorization"] == f"Bearer {KEY}"
    script.script = [status(401, "bad key")]
    with pytest.raises(InfraError) as raised:
        await ask(engine)
    for text in (repr(engine), str(engine), repr(engine.config), str(raised.value), caplog.text):
        assert KEY not in text


async def test_without_a_key_no_authorization_is_sent(served):
    script, make = served
    await ask(make())
    assert "Authorization" not in script.headers[0]


async def test_a_key_that_is_not_set_is_named(served, monkeypatch):
    _, make = served
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(
        ConfigError, match="agentflow.endpoints.judge.api_key_env: JUDGE_KEY is not set"
    ):
        make(api_key_env="JUDGE_KEY")


def test_count_is_an_estimate_that_grows():
    engine = EndpointEngine(
        "judge", EndpointConfig(base_url="http://x/v1", model="m"), session=None
    )
    assert engine.count("") >= 0
    assert engine.count("word " * 100) > engine.count("word")


# ---- any answer at all ----

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)
MESSAGE = JSON | st.fixed_dictionaries({"content": JSON})
CHOICE = JSON | st.fixed_dictionaries({"message": MESSAGE}, optional={"finish_reason": JSON})
DETAILS = JSON | st.fixed_dictionaries({}, optional={"cached_tokens": JSON})
USAGE = JSON | st.fixed_dictionaries(
    {},
    optional={"prompt_tokens": JSON, "completion_tokens": JSON, "prompt_tokens_details": DETAILS},
)
PAYLOAD = JSON | st.fixed_dictionaries(
    {"choices": JSON | st.lists(CHOICE, max_size=2)}, optional={"usage": USAGE}
)


@settings(max_examples=150, deadline=None)
@given(PAYLOAD)
def test_any_json_is_a_typed_reply_or_a_fault(payload):
    class Response:
        status, headers = 200, {}

        async def __aenter__(self) -> Response:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        async def text(self) -> str:
            return json.dumps(payload)

        async def json(self) -> Any:
            return payload

    class Session:
        async def post(self, *_: object, **__: object) -> Response:
            return Response()

    engine = EndpointEngine(
        "judge", EndpointConfig(base_url="http://x/v1", model="m", retries=0), Session()
    )
    try:
        reply = asyncio.run(ask(engine))
    except InfraError:
        return
    assert isinstance(reply.text, str)
    assert isinstance(reply.prompt_tokens, int) and isinstance(reply.response_tokens, int)
    assert reply.cached_tokens is None or isinstance(reply.cached_tokens, int)
    reply.text.encode()
