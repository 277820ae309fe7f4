"""What the flow asks of an engine: messages in, one reply out, before a deadline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from agentflow_verl.core.deadline import Deadline

Message = dict[str, str]  # {"role": "system" | "user", "content": text}


@dataclass(frozen=True)
class Reply:
    """One model reply.

    ``prompt_ids``, ``response_ids`` and ``logprobs`` are what was sent and sampled, never
    re-encoded text; an engine that only speaks text leaves them empty and fills the two counts.
    """

    text: str
    engine: str
    prompt_ids: tuple[int, ...] = ()
    response_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    prompt_tokens: int = 0
    response_tokens: int = 0
    cached_tokens: int | None = None
    cut: bool = False  # stopped by the token limit
    weights_first: int | None = None  # version of the weights that sampled the first token
    weights_last: int | None = None
    shared: bool = False  # the answer to an equal prompt, which was not asked again


class Engine(Protocol):
    """Answers one prompt. Raises PromptTooLong, InfraError or OutOfTime, and nothing else."""

    @property
    def name(self) -> str:
        """What records and metrics call it."""

    @property
    def structured(self) -> bool:
        """Whether a reply follows the JSON schema that ``reply`` is given."""

    @property
    def has_tokenizer(self) -> bool:
        """Whether ``count`` reads its text with a tokenizer, which takes too long for an event loop
        that others wait for.
        """

    def count(self, text: str) -> int:
        """Tokens in ``text``; an estimate where the engine has no tokenizer."""

    async def reply(
        self,
        messages: list[Message],
        *,
        trajectory: str,
        deadline: Deadline,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        """The engine's reply.

        Args:
            trajectory: keeps a trajectory's calls on one server, for its prefix cache.
            schema: JSON schema of the reply; an engine that is not ``structured`` ignores it.
        """
