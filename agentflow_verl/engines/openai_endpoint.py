"""Any OpenAI-compatible endpoint, over aiohttp.

aiohttp and not the openai SDK: at 256 calls in flight the SDK's httpx costs twenty times the CPU of
a call.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import zlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import aiohttp

from agentflow_verl.config.endpoint import EndpointConfig
from agentflow_verl.core import http_session
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import ConfigError, InfraError, OutOfTime, PromptTooLong
from agentflow_verl.core.json_text import loads
from agentflow_verl.core.retry import RetryPolicy, retry_after_s
from agentflow_verl.core.server_errors import ServerFault
from agentflow_verl.core.server_pool import ServerPool
from agentflow_verl.core.unicode import well_formed
from agentflow_verl.engines.interface import Message, Reply
from agentflow_verl.engines.refusals import Refusals

RETRIED = {408, 409, 425, 429, *range(500, 600)}  # gateways have 5xx of their own, such as 529
REFUSED = {400, 422}
CHARS_PER_TOKEN = 4  # an estimate for English; an endpoint shows no tokenizer
# What OpenAI, vLLM, SGLang, llama.cpp and TGI write; none has a status of its own for it.
_TOO_LONG = re.compile(
    r"context[ _-]?(length|window|size)|maximum context|too many tokens"
    r"|(prompt|input|context)\b.{0,40}(too long|exceeds)|exceeds.{0,40}context",
    re.IGNORECASE,
)
_EXCERPT = 200

logger = logging.getLogger(__name__)


class EndpointEngine:
    """Engine over ``POST {base_url}/chat/completions``. A trajectory stays on one URL while that
    answers.
    """

    has_tokenizer = False

    def __init__(self, name: str, config: EndpointConfig, session: aiohttp.ClientSession) -> None:
        self.name = name
        self.config = config
        self.session = session
        self.structured = config.structured
        self._pool = ServerPool(
            config.urls, config.concurrency, RetryPolicy(config.retries + 1, first_pause_s=0.25)
        )
        self._refusals = Refusals(name)
        self.headers: dict[str, str] = {}
        if config.api_key_env:
            if config.api_key_env not in os.environ:
                raise ConfigError(
                    f"agentflow.endpoints.{name}.api_key_env: {config.api_key_env} is not set in"
                    " the environment"
                )
            self.headers["Authorization"] = f"Bearer {os.environ[config.api_key_env]}"

    @property
    def is_greedy(self) -> bool:
        """Whether its replies follow from the prompt alone: at temperature 0, unless the endpoint
        refuses to be told one.
        """
        told = not self._refusals.has_refused("temperature")
        return told and self.config.sampling_temperature == 0

    def is_hang(self, waited_s: float) -> bool:
        """Whether so many seconds without an answer are the endpoint's fault."""
        return self._pool.is_hang(waited_s)

    def count(self, text: str) -> int:
        return len(text) // CHARS_PER_TOKEN + 1

    async def reply(
        self,
        messages: list[Message],
        *,
        trajectory: str,
        deadline: Deadline,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        if not self.structured:
            schema = None
        send = partial(self._ask, self._body(messages, trajectory, schema), deadline)
        reply, _ = await self._pool.call(
            f"endpoint {self.name}", send, deadline, session=trajectory
        )
        return reply

    def _body(
        self, messages: list[Message], trajectory: str, schema: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        config = self.config
        body: dict[str, Any] = {
            "model": config.model,
            "messages": messages,
            "temperature": config.temperature,
            "max_tokens": config.max_tokens,
        }
        if config.seed is not None:
            # The prompt is in it: with one seed for all of a trajectory a planner would draw the
            # same plan again and again.
            prompt = "\n".join(message["content"] for message in messages)
            body["seed"] = zlib.crc32(f"{config.seed}/{trajectory}/{prompt}".encode())
        if schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "reply", "schema": schema},
            }
        if config.chat_template_kwargs:
            body["chat_template_kwargs"] = config.chat_template_kwargs
        body |= config.extra_body
        return {key: value for key, value in body.items() if value is not None}

    async def _ask(self, body: dict[str, Any], deadline: Deadline, url: str) -> Reply:
        """One attempt; asked once more for each parameter that turns out to be refused."""
        while True:
            sent = self._refusals.without_refused(body)
            status, headers, text = await self._post(url, sent, deadline)
            if status == 200:
                return self._read_reply(text)
            if status in RETRIED:
                raise ServerFault(
                    f"endpoint {self.name}: HTTP {status}",
                    busy=status == 429,
                    retry_after_s=retry_after_s(headers.get("Retry-After")),
                )
            excerpt = f"HTTP {status}: {text[:_EXCERPT]}"
            if status in REFUSED and _TOO_LONG.search(text):
                raise PromptTooLong(f"endpoint {self.name}: {excerpt}")
            if status not in REFUSED or not self._refusals.learn(sent, status, text):
                raise InfraError(f"endpoint {self.name}: {excerpt}")

    async def _post(
        self, url: str, body: dict[str, Any], deadline: Deadline
    ) -> tuple[int, Mapping[str, str], str]:
        """Status, headers and text of the answer. Raises ServerFault or OutOfTime."""
        started = deadline.clock.now()
        timeout_s = min(self.config.timeout_s, deadline.remaining())
        if timeout_s <= 0:  # to aiohttp, a total of 0 means no limit
            raise OutOfTime(f"endpoint {self.name}: called after the deadline")
        where = f"{url.rstrip('/')}/chat/completions"
        try:
            response = await http_session.post(
                self.session, where, timeout_s, json=body, headers=self.headers
            )
            async with response:
                return response.status, response.headers, await response.text()
        except asyncio.TimeoutError:
            waited_s = deadline.clock.now() - started
            # A timer may fire a moment before its time.
            if waited_s < self.config.timeout_s and deadline.remaining() <= 0.005:
                raise OutOfTime(
                    f"endpoint {self.name}: no answer before the deadline", waited_s
                ) from None
            raise ServerFault(f"endpoint {self.name}: no answer within {timeout_s:.0f} s") from None
        except Exception as fault:  # the boundary: a connection can break in any way
            raise ServerFault(f"endpoint {self.name}: {type(fault).__name__}: {fault}") from fault

    def _read_reply(self, body: str) -> Reply:
        try:
            return self._to_reply(loads(body))
        except Exception as fault:  # the boundary: a reply can be malformed in any way
            raise ServerFault(
                f"endpoint {self.name}: unreadable reply: {type(fault).__name__}: {fault}"
            ) from fault

    def _to_reply(self, payload: dict[str, Any]) -> Reply:
        choice = payload["choices"][0]
        text = choice["message"]["content"] or ""
        if not isinstance(text, str):
            raise TypeError(f"content is {type(text).__name__}, not text")
        usage = payload.get("usage") or {}
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        if cached is not None:  # unknown is not zero
            cached = int(cached)
        return Reply(
            text=well_formed(text),
            engine=self.name,
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            response_tokens=int(usage.get("completion_tokens") or 0),
            cached_tokens=cached,
            cut=choice.get("finish_reason") == "length",
        )
