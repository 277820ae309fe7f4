"""A token-in, token-out server behind a chat template: the policy, and the frozen base.

The ids that are sent are the ids that are recorded, and the ids and log-probabilities that come
back are recorded as they are: no text is ever encoded again on the way to a training row.
"""

from __future__ import annotations

import asyncio
import copy
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jinja2 import TemplateError

from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import InfraError, OutOfTime, PromptTooLong
from agentflow_verl.core.interruptions import Interruptions
from agentflow_verl.engines.interface import Message, Reply

PROBE_S = 10.0
"""For one token from a server that ran past a deadline. A server that works but is this busy keeps
everybody waiting, which is no more the model's doing than a hang.
"""

Generate = Callable[..., Awaitable[Any]]
"""``generate(request_id, *, prompt_ids, sampling_params)`` as verl's LLMServerClient has it,
returning a TokenOutput.
"""
SchemaSampling = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class TokenEngine:
    """Engine over ``generate``. Sampling parameters pass through unchanged.

    Args:
        name: what records and metrics call it, ``policy`` or ``base``.
        tokenizer: the checkpoint's own, with its chat template.
        generate: the server call.
        sampling: the request's sampling parameters, all of them.
        prompt_limit: longest prompt in tokens.
        response_limit: longest reply in tokens, to tell a cut reply from a finished one.
        template_kwargs: further arguments of the chat template, such as ``enable_thinking``.
        schema_sampling: the sampling parameters that hold a reply to a JSON schema, in the words
            of the server behind ``generate``. None: the engine is not ``structured``.
        interruptions: when a trainer holds these servers up; None where none does.
    """

    def __init__(
        self,
        name: str,
        tokenizer: Any,
        generate: Generate,
        sampling: Mapping[str, Any],
        prompt_limit: int,
        response_limit: int,
        template_kwargs: Mapping[str, Any] | None = None,
        schema_sampling: SchemaSampling | None = None,
        interruptions: Interruptions | None = None,
    ):
        self.name = name
        self.tokenizer = tokenizer
        self.generate = generate
        self.sampling = dict(sampling)
        self.prompt_limit = prompt_limit
        self.response_limit = response_limit
        self.template_kwargs = dict(template_kwargs or {})
        self.schema_sampling = schema_sampling
        self.interruptions = interruptions or Interruptions()
        self.seed_key: str | None = None

    def seeded(self, key: str) -> TokenEngine:
        """This engine for one trajectory: each call samples with a seed that follows from ``key``
        and its prompt.

        The prompt is in it: with one seed for all of a trajectory, each of its turns would draw the
        same numbers.
        """
        engine = copy.copy(self)
        engine.seed_key = key
        return engine

    @property
    def has_tokenizer(self) -> bool:
        return True

    @property
    def structured(self) -> bool:
        return self.schema_sampling is not None

    @property
    def is_greedy(self) -> bool:
        """Whether its replies follow from the prompt alone."""
        return self.sampling.get("temperature") == 0

    def is_hang(self, waited_s: float) -> bool:
        """Left to ``reply``, which asks the server for one token."""
        return False

    def count(self, text: str) -> int:
        return len(self.tokenizer.encode(text, add_special_tokens=False))

    def encode(self, messages: list[Message]) -> list[int]:
        """The prompt's ids. Raises PromptTooLong over ``prompt_limit``, InfraError where the chat
        template fails.
        """
        try:
            ids = self._template(messages)
        except TemplateError:
            # A template without a system role (Gemma): the system part leads the user's.
            system, user = messages
            prompt = f"{system['content']}\n\n{user['content']}"
            try:
                ids = self._template([{"role": "user", "content": prompt}])
            except TemplateError as fault:
                raise InfraError(f"engine {self.name}: its chat template fails: {fault}") from fault
        if len(ids) > self.prompt_limit:
            raise PromptTooLong(
                f"engine {self.name}: the prompt has {len(ids)} tokens, the limit is"
                f" {self.prompt_limit}",
                tokens=len(ids),
                limit=self.prompt_limit,
            )
        return ids

    def _template(self, messages: list[Message]) -> list[int]:
        ids: list[int] = self.tokenizer.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            **self.template_kwargs,
        )
        return ids

    async def reply(
        self,
        messages: list[Message],
        *,
        trajectory: str,
        deadline: Deadline,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        # a thousand tokens take a millisecond, in which the event loop would serve nobody
        prompt_ids = await asyncio.to_thread(self.encode, messages)
        sampling = dict(self.sampling)
        if self.seed_key is not None:
            sampling["seed"] = zlib.crc32(f"{self.seed_key}/{prompt_ids}".encode())
        if schema is not None and self.schema_sampling is not None:
            sampling |= self.schema_sampling(schema)
        with self._boundary():
            try:
                output = await self._generate(trajectory, prompt_ids, sampling, deadline)
            except OutOfTime as late:
                if await self._answers(trajectory, prompt_ids, deadline):
                    raise
                raise InfraError(f"{late}, and its server answers no other request") from late
            return self._read(prompt_ids, output)

    @contextmanager
    def _boundary(self) -> Iterator[None]:
        """Whatever the server or Ray raises or returns is not the model's doing."""
        try:
            yield
        except (OutOfTime, InfraError):
            raise
        except Exception as fault:
            raise InfraError(f"engine {self.name}: {type(fault).__name__}: {fault}") from fault

    async def _generate(
        self,
        trajectory: str,
        prompt_ids: list[int],
        sampling: Mapping[str, Any],
        deadline: Deadline,
    ) -> Any:
        work = self.generate(trajectory, prompt_ids=prompt_ids, sampling_params=dict(sampling))
        with self.interruptions.waiting(deadline.clock):
            return await deadline.run(work, f"engine {self.name}")

    async def _answers(self, trajectory: str, prompt_ids: list[int], late: Deadline) -> bool:
        """Whether the server that owes a reply still samples one token.

        A reply that is long in coming, from a server that works, is what the model wrote or the
        time that it used before: the budget's end. A server that hangs is an infrastructure fault.
        """
        one_token = {**self.sampling, "max_tokens": 1}
        try:
            # the same trajectory: its calls go to the same server
            await self._generate(
                trajectory, prompt_ids[:1], one_token, Deadline.after(PROBE_S, late.clock)
            )
        except Exception:  # a server that hangs, or one that has died meanwhile
            return False
        return True

    def _read(self, prompt_ids: list[int], output: Any) -> Reply:
        if not output.token_ids:
            raise InfraError(
                f"engine {self.name}: an empty reply (stop reason {output.stop_reason!r})"
            )
        return Reply(
            text=self.tokenizer.decode(output.token_ids, skip_special_tokens=True),
            engine=self.name,
            prompt_ids=tuple(prompt_ids),
            response_ids=tuple(output.token_ids),
            logprobs=tuple(output.log_probs or ()),
            prompt_tokens=len(prompt_ids),
            response_tokens=len(output.token_ids),
            cached_tokens=output.extra_fields.get("num_cached_tokens"),
            cut=len(output.token_ids) >= self.response_limit,
            weights_first=output.extra_fields.get("min_global_steps"),
            weights_last=output.extra_fields.get("max_global_steps"),
        )
