"""Any OpenAI-compatible endpoint, over aiohttp.

aiohttp and not the openai SDK: at 256 calls in flight the SDK's httpx costs twenty times the CPU of
a call.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import zlib
from collections.abc import Mapping
from typing import Any

import aiohttp

from agentflow_verl.config.endpoint import EndpointConfig
from agentflow_verl.core import http_session
from agentflow_verl.core.balancer import Replicas
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import ConfigError, InfraError, OutOfTime, PromptTooLong
from agentflow_verl.core.server_errors import NoReplica, ServerFault
from agentflow_verl.core.unicode import well_formed
from agentflow_verl.engines.interface import Message, Reply

RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}
CHARS_PER_TOKEN = 4  # an estimate for English; an endpoint shows no tokenizer

logger = logging.getLogger(__name__)


class EndpointEngine:
    """Engine over ``POST {base_url}/chat/completions``. A trajectory stays on one URL while that
    answers.
    """

    def __init__(self, name: str, config: EndpointConfig, session: aiohttp.ClientSession):
        self.name = name
        self.config = config
        self.session = session
        self.structured = config.structured
        self.slots = asyncio.Semaphore(config.concurrency)
        self.replicas = Replicas(config.urls)
        self.refused: set[str] = set()  # schemas that the server did not take
        self.headers = {}
        if config.api_key_env:
            if config.api_key_env not in os.environ:
                raise ConfigError(
                    f"agentflow.endpoints.{name}.api_key_env: {config.api_key_env} is not set in"
                    " the environment"
                )
            self.headers["Authorization"] = f"Bearer {os.environ[config.api_key_env]}"

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
        body: dict[str, Any] = {
            "model": self.config.model,
            "messages": messages,
            "temperature": self.config.temperature,
            "max_tokens": self.config.max_tokens,
        }
        if self.config.seed is not None:
            # The prompt is in it: with one seed for all of a trajectory a planner would draw the
            # same plan again and again.
            prompt = "\n".join(message["content"] for message in messages)
            body["seed"] = zlib.crc32(f"{self.config.seed}/{trajectory}/{prompt}".encode())
        if schema is not None and self.structured and json.dumps(schema) not in self.refused:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "reply", "schema": schema},
            }
        failures: list[InfraError] = []
        try:
            return await deadline.run(
                self._attempts(body, trajectory, deadline, failures), f"endpoint {self.name}"
            )
        except OutOfTime:
            if failures:  # it is the endpoint that took the time
                raise InfraError(
                    f"endpoint {self.name}: {failures[-1]}, and then no time was left"
                ) from None
            raise

    async def _attempts(
        self, body: dict[str, Any], trajectory: str, deadline: Deadline, failures: list[InfraError]
    ) -> Reply:
        """Ask until a URL answers, at most ``retries`` times more than once. Notes each failure in
        ``failures``.
        """
        failed: set[str] = set()
        while True:
            try:
                async with self.slots:
                    with self.replicas.one(failed, session=trajectory) as url:
                        return await self._post(url, body)
            except _SchemaRefused as refusal:
                self._go_without_schema(body, refusal)
            except NoReplica as none:
                if not await self.replicas.wait(deadline.remaining()):
                    raise InfraError(f"endpoint {self.name}: {none}") from None
            except ServerFault as fault:
                failures.append(fault)
                failed.add(url)
                pause = self._pause(fault, len(failures), failed)
                if len(failures) > self.config.retries or pause >= deadline.remaining():
                    raise InfraError(
                        f"endpoint {self.name}: {fault} after {len(failures)} attempts"
                    ) from None
                await asyncio.sleep(pause)

    def _pause(self, fault: ServerFault, attempt: int, failed: set[str]) -> float:
        """Seconds until the next attempt: none if it can go elsewhere."""
        if self.replicas.another(than=failed):
            return 0.0
        return max(
            fault.retry_after_s, min(8.0, 0.25 * 2 ** (attempt - 1)) * random.uniform(0.5, 1.5)
        )

    def _go_without_schema(self, body: dict[str, Any], refusal: Exception) -> None:
        schema = json.dumps(body.pop("response_format")["json_schema"]["schema"])
        if schema not in self.refused:
            self.refused.add(schema)
            logger.warning(
                "endpoint %s does not take a JSON schema and is asked without it: %s",
                self.name,
                refusal,
            )

    async def _post(self, url: str, body: dict[str, Any]) -> Reply:
        timeout = aiohttp.ClientTimeout(total=self.config.timeout_s)
        where = f"{url.rstrip('/')}/chat/completions"
        try:
            async with http_session.post(
                self.session, where, json=body, headers=self.headers, timeout=timeout
            ) as response:
                text = await response.text()
                if response.status in RETRIED:
                    after = _seconds(response.headers.get("Retry-After"))
                    raise ServerFault(
                        f"HTTP {response.status}", busy=response.status == 429, retry_after_s=after
                    )
                if response.status == 400 and "context" in text.lower():
                    raise PromptTooLong(f"endpoint {self.name}: {text[:200]}")
                if response.status in (400, 422) and "response_format" in body:
                    raise _SchemaRefused(f"HTTP {response.status}: {text[:200]}")
                if response.status != 200:
                    raise InfraError(f"endpoint {self.name}: HTTP {response.status}: {text[:200]}")
                return self._read(await response.json())
        except (InfraError, _SchemaRefused):
            raise
        except (
            Exception
        ) as fault:  # the boundary: a connection can break, and a reply be malformed, in any way
            raise ServerFault(f"{type(fault).__name__}: {fault}") from fault

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
            cached_tokens=(
                None if details.get("cached_tokens") is None else int(details["cached_tokens"])
            ),
            cut=choice.get("finish_reason") == "length",
        )


class _SchemaRefused(Exception):
    """The request was refused with a schema in it; without one it may pass."""


def _seconds(header: str | None) -> float:
    try:
        return min(30.0, float(header or 0))
    except ValueError:
        return 0.0
