"""An optional LLM judge on any OpenAI-compatible endpoint, beside the rules and never in the place
of a fault.

``fallback`` asks it only where the rule says no, ``alone`` lets it decide every answer. The rule is
always computed, so that every disagreement of the two can be counted (``agreement.py``). The
24-game's rule is exact: there no judge is asked, nor for an empty answer.

A verdict is a JSON object, asked for with a JSON schema where the endpoint knows one, and kept
under everything that shapes it. An endpoint that cannot be reached, or a judge that gives no
verdict twice, is an ``InfraError``.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

from agentflow_verl.config.endpoint import EndpointConfig
from agentflow_verl.config.judge import JudgeConfig
from agentflow_verl.config.reward import QaMatch, RewardConfig
from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.disk_cache import ResultCache, digest_of
from agentflow_verl.core.errors import InfraError, MalformedOutput, OutOfTime
from agentflow_verl.engines.interface import Message
from agentflow_verl.engines.openai_endpoint import EndpointEngine
from agentflow_verl.rewards.compute import score_answer
from agentflow_verl.rewards.judge.prompt import REMINDER, SCHEMA, messages, read_verdict
from agentflow_verl.rewards.score import GroundTruth, Score

MODES = ("fallback", "alone")
EXACT = frozenset({"game24"})  # scorers that no judge can better
MAX_KNOWN = 8_192
MAX_REASON = 200


class Judge:
    """Gives verdicts. One a process; open it on the event loop that uses it."""

    def __init__(
        self, config: JudgeConfig, endpoint: EndpointConfig, session: aiohttp.ClientSession
    ):
        """Raises ConfigError: the endpoint's key is not in the environment, or the cache's folder
        cannot be used.
        """
        self.config = config
        self.engine = EndpointEngine(
            "judge", endpoint.model_copy(update={"structured": True}), session
        )
        self.cache: ResultCache | None = None
        if config.cache_dir:
            self.cache = ResultCache(Path(config.cache_dir))
        self.known: OrderedDict[str, asyncio.Future[tuple[bool, str]]] = OrderedDict()
        self.asked = 0  # requests for a verdict that no memory had

    async def verdict(
        self,
        scorer: str,
        question: str,
        answer: str,
        ground_truth: GroundTruth,
        extra: Mapping[str, Any] | None = None,
    ) -> tuple[bool, str]:
        """Whether the answer is correct, and why in the judge's words. Equal questions are asked
        once.

        Raises:
            ConfigError: no gold answer.
            InfraError: no verdict could be had.
        """
        prompt = messages(scorer, question, answer, ground_truth, extra or {})
        endpoint = self.engine.config
        digest = digest_of(
            {
                "judge": endpoint.model,
                "prompt": prompt,
                "temperature": endpoint.temperature,
                "max_tokens": endpoint.max_tokens,
            }
        )
        # Kept as futures, so that equal questions under way share a request; failures are not kept.
        asking = self.known.get(digest)
        if asking is None or (asking.done() and (asking.cancelled() or asking.exception())):
            asking = self.known[digest] = asyncio.ensure_future(self._find(digest, prompt))
            while len(self.known) > MAX_KNOWN:
                self.known.popitem(last=False)
        self.known.move_to_end(digest)
        # A caller that ends does not take the verdict from the others.
        return await asyncio.shield(asking)

    async def _find(self, digest: str, prompt: list[Message]) -> tuple[bool, str]:
        deadline = Deadline.after(self.config.timeout_s)
        kept = None
        if self.cache:
            kept = await self.cache.get(digest, deadline)
        if kept is not None:
            correct, analysis = json.loads(kept)
            return correct, analysis
        self.asked += 1
        found = await self._ask(digest, prompt, deadline)
        if self.cache:
            self.cache.put(digest, json.dumps(found))
        return found

    async def _ask(
        self, digest: str, prompt: list[Message], deadline: Deadline
    ) -> tuple[bool, str]:
        try:
            reply = await self.engine.reply(
                prompt, trajectory=digest, deadline=deadline, schema=SCHEMA
            )
            try:
                return read_verdict(reply.text)
            except MalformedOutput:
                again = [
                    *prompt,
                    {"role": "assistant", "content": reply.text},
                    {"role": "user", "content": REMINDER},
                ]
                reply = await self.engine.reply(
                    again, trajectory=digest, deadline=deadline, schema=SCHEMA
                )
                return read_verdict(reply.text)
        except MalformedOutput as mistake:
            raise InfraError(
                f"the judge gave no verdict twice: {mistake}: {reply.text[:80]!r}"
            ) from None
        except OutOfTime as late:
            raise InfraError(
                f"the judge took more than {self.config.timeout_s:g} s: {late}"
            ) from None

    async def close(self) -> None:
        """End what is under way, and write what the cache still holds."""
        for asking in self.known.values():
            asking.cancel()
        await asyncio.gather(*self.known.values(), return_exceptions=True)
        if self.cache:
            await self.cache.close()


async def score_with_judge(
    judge: Judge | None,
    data_source: str,
    answer: str,
    ground_truth: GroundTruth,
    extra: Mapping[str, Any],
    *,
    qa_match: QaMatch = RewardConfig().qa_match,
) -> tuple[Score, dict[str, Any]]:
    """The score of an extracted answer by rule, and by the judge where there is one; with it, what
    each said.

    ``qa_match`` is the reward of short answers. The details are ``scorer`` and ``Score.details``,
    and with a judge ``rule`` and ``judge`` (0 or 1; where no judge was asked, both are the rule's),
    ``judged`` and ``disagree``.

    Raises:
        ConfigError, InfraError: as ``score_answer`` and ``Judge.verdict``.
    """
    # In a thread, as the algebra may take seconds and the event loop serves all trajectories.
    ruled, name = await asyncio.to_thread(
        score_answer, data_source, answer, ground_truth, extra, qa_match=qa_match
    )
    details = {"scorer": name, **ruled.details}
    if judge is None:
        return ruled, details
    judged = (
        name not in EXACT
        and bool(answer.strip())
        and (judge.config.mode == "alone" or ruled.value < 1.0)
    )
    final = ruled
    if judged:
        correct, analysis = await judge.verdict(
            name, str(extra.get("question", "")), answer, ground_truth, extra
        )
        reason = f"judge: {analysis[:MAX_REASON]}"
        final = replace(ruled, value=float(correct), reason=reason)
        details["reason"] = final.reason
    disagree = float(final.value != ruled.value)
    return final, {
        **details,
        "rule": ruled.value,
        "judge": final.value,
        "judged": float(judged),
        "disagree": disagree,
    }
