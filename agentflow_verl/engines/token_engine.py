"""A token-in, token-out server behind a chat template: the policy, and the frozen base.

The ids that are sent are the ids that are recorded, and the ids and log-probabilities that come
back are recorded as they are: no text is ever encoded again on the way to a training row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from jinja2 import TemplateError

from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import InfraError, OutOfTime, PromptTooLong
from agentflow_verl.engines.interface import Message, Reply

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
    ):
        self.name = name
        self.tokenizer = tokenizer
        self.generate = generate
        self.sampling = dict(sampling)
        self.prompt_limit = prompt_limit
        self.response_limit = response_limit
        self.template_kwargs = dict(template_kwargs or {})
        self.schema_sampling = schema_sampling

    @property
    def structured(self) -> bool:
        return self.schema_sampling is not None

    def count(self, text: str) -> int:
        return len(self.tokenizer.encode(text, add_special_tokens=False))

    def encode(self, messages: list[Message]) -> list[int]:
        """The prompt's ids. Raises PromptTooLong over ``prompt_limit``, InfraError where the chat
        template fails.
        """
        try:
            ids = self._template(messages)
        except (
            TemplateError
        ):  # a template without a system role (Gemma): the system part leads the user's
            system, user = messages
            try:
                ids = self._template(
                    [{"role": "user", "content": f"{system['content']}\n\n{user['content']}"}]
                )
            except TemplateError as fault:
                raise InfraError(f"engine {self.name}: its chat template fails: {fault}") from fault
        if len(ids) > self.prompt_limit:
            raise PromptTooLong(
                f"engine {self.name}: the prompt has {len(ids)} tokens, the limit is"
                f" {self.prompt_limit}"
            )
        return ids

    def _template(self, messages: list[Message]) -> list[int]:
        return self.tokenizer.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            **self.template_kwargs,
        )

    async def reply(
        self,
        messages: list[Message],
        *,
        trajectory: str,
        deadline: Deadline,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        prompt_ids = await asyncio.to_thread(
            self.encode, messages
        )  # a millisecond of the event loop each thousand tokens
        sampling = dict(self.sampling)
        if schema is not None and self.schema_sampling is not None:
            sampling |= self.schema_sampling(schema)
        work = self.generate(trajectory, prompt_ids=prompt_ids, sampling_params=sampling)
        try:
            return self._read(prompt_ids, await deadline.run(work, f"engine {self.name}"))
        except (OutOfTime, InfraError):
            raise
        except Exception as fault:  # the boundary: whatever the server or Ray raises or returns is not the model's doing
            raise InfraError(f"engine {self.name}: {type(fault).__name__}: {fault}") from fault

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
