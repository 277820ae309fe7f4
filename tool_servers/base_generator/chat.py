"""``POST {base_url}/chat/completions``, as OpenAI, vLLM, SGLang and most others speak it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tool_servers.common.calls import ServiceError, ToolError
from tool_servers.common.upstream import Rejected, Request, Upstream

CUT = "\n[... the answer was cut at its longest length]"
NOTHING = "[the model answered nothing]"
_TOO_LONG = ("context", "too long", "maximum")
"""Words of a refusal (400, 413, 422) that blames the length of the query."""


@dataclass(frozen=True)
class Chat:
    """A model at an endpoint, and how it is asked."""

    upstream: Upstream
    base_url: str
    model: str
    key: str | None = field(default=None, repr=False)
    temperature: float = 0.0
    max_tokens: int = 1_024
    system: str = ""

    async def answer(self, query: str, end: float) -> str:
        """The model's answer.

        Raises ToolError for a query that it cannot take, ServiceError where the endpoint fails.
        """
        messages = [{"role": "user", "content": query}]
        if self.system:
            messages.insert(0, {"role": "system", "content": self.system})
        body = {
            "model": self.model,
            "messages": messages,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        headers = {}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        try:
            reply = await self.upstream.ask(
                Request(f"{self.base_url}/chat/completions", headers=headers, json=body), end
            )
        except Rejected as refused:
            said = str(refused).lower()
            if refused.status in (400, 413, 422) and any(word in said for word in _TOO_LONG):
                raise ToolError("The query is too long for the model. Shorten it.") from None
            raise ServiceError(f"the endpoint refused the request: {refused}") from None
        return reply_text(reply)


def reply_text(reply: Any) -> str:
    """The text of a reply, with a mark where it was cut. Raises ServiceError for another format."""
    try:
        choice = reply["choices"][0]
        text = choice["message"]["content"] or ""
        if not isinstance(text, str):
            raise TypeError(f"content is {type(text).__name__}")
        was_cut = choice.get("finish_reason") == "length"
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise ServiceError(f"the endpoint answered in another format: {error!r}") from None
    answer = text.strip() or NOTHING
    return answer + CUT if was_cut else answer
