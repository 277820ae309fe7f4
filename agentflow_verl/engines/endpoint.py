"""Any OpenAI-compatible endpoint, over aiohttp.

aiohttp and not the openai SDK: at 256 calls in flight the SDK's httpx costs twenty times the CPU of a call.
"""

from __future__ import annotations

import asyncio
import os
import random
import zlib
from dataclasses import dataclass
from typing import Any

import aiohttp

from agentflow_verl.deadline import Deadline
from agentflow_verl.engines.base import Message, Reply
from agentflow_verl.errors import ConfigError, InfraError, PromptTooLong
from agentflow_verl.text import well_formed

RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}
CHARS_PER_TOKEN = 4  # an estimate for English; an endpoint shows no tokenizer


@dataclass(frozen=True)
class EndpointConfig:
    """One endpoint of ``agentflow.endpoints``."""

    base_url: str  # up to and including /v1
    model: str
    api_key_env: str | None = None  # name of the environment variable that holds the key
    concurrency: int = 64  # requests in flight, a process
    timeout_s: float = 120.0  # one attempt
    retries: int = 3  # further attempts, for faults of the endpoint only
    temperature: float = 0.0
    max_tokens: int = 1024
    seed: int | None = None  # with it, each call samples with a seed that follows from this, its trajectory and its prompt


class EndpointEngine:
    """Engine over ``POST {base_url}/chat/completions``."""

    def __init__(self, name: str, config: EndpointConfig, session: aiohttp.ClientSession):
        self.name = name
        self.config = config
        self.session = session
        self.slots = asyncio.Semaphore(config.concurrency)
        self.headers = {}
        if config.api_key_env:
            if config.api_key_env not in os.environ:
                raise ConfigError(f"agentflow.endpoints.{name}.api_key_env: {config.api_key_env} is not set in the environment")
            self.headers["Authorization"] = f"Bearer {os.environ[config.api_key_env]}"

    def count(self, text: str) -> int:
        return len(text) // CHARS_PER_TOKEN + 1

    async def reply(self, messages: list[Message], *, trajectory: str, deadline: Deadline) -> Reply:
        body = {
            "model": self.config.model,
            "messages": messages,
            "temperature": self.config.temperature,
            "max_tokens": self.config.max_tokens,
        }
        if self.config.seed is not None:
            # The prompt is in it: with one seed for all of a trajectory a planner would draw the same plan again and again.
            prompt = "\n".join(message["content"] for message in messages)
            body["seed"] = zlib.crc32(f"{self.config.seed}/{trajectory}/{prompt}".encode())
        return await deadline.run(self._attempts(body), f"endpoint {self.name}")

    async def _attempts(self, body: dict[str, Any]) -> Reply:
        for attempt in range(self.config.retries + 1):
            try:
                async with self.slots:
                    return await self._post(body)
            except _Retry as retry:
                if attempt == self.config.retries:
                    raise InfraError(f"endpoint {self.name}: {retry} after {attempt + 1} attempts") from None
                await asyncio.sleep(max(retry.after, min(8.0, 0.25 * 2**attempt) * random.uniform(0.5, 1.5)))
        raise AssertionError("unreachable")

    async def _post(self, body: dict[str, Any]) -> Reply:
        url = f"{self.config.base_url.rstrip('/')}/chat/completions"
        timeout = aiohttp.ClientTimeout(total=self.config.timeout_s)
        try:
            async with self.session.post(url, json=body, headers=self.headers, timeout=timeout) as response:
                text = await response.text()
                if response.status in RETRIED:
                    raise _Retry(f"HTTP {response.status}", _seconds(response.headers.get("Retry-After")))
                if response.status == 400 and "context" in text.lower():
                    raise PromptTooLong(f"endpoint {self.name}: {text[:200]}")
                if response.status != 200:
                    raise InfraError(f"endpoint {self.name}: HTTP {response.status}: {text[:200]}")
                return self._read(await response.json())
        except (_Retry, InfraError):
            raise
        except Exception as fault:  # the boundary: a connection can break, and a reply be malformed, in any way
            raise _Retry(f"{type(fault).__name__}: {fault}") from fault

    def _read(self, payload: dict[str, Any]) -> Reply:
        choice = payload["choices"][0]
        text = choice["message"]["content"] or ""
        if not isinstance(text, str):
            raise TypeError(f"content is {type(text).__name__}, not text")
        usage = payload.get("usage") or {}
        details = usage.get("prompt_tokens_details") or {}
        return Reply(
            text=well_formed(text),
            engine=self.name,
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            response_tokens=int(usage.get("completion_tokens") or 0),
            cached_tokens=None if details.get("cached_tokens") is None else int(details["cached_tokens"]),
            cut=choice.get("finish_reason") == "length",
        )


class _Retry(Exception):
    """A fault of the endpoint that another attempt may not meet."""

    def __init__(self, message: str, after: float = 0.0):
        super().__init__(message)
        self.after = after


def _seconds(header: str | None) -> float:
    try:
        return min(30.0, float(header or 0))
    except ValueError:
        return 0.0
