"""A recorded trajectory run again from its own answers, without a model, and the first thing that
comes out differently.

Every model reply and every tool result is taken from the record; prompts, parsing, the check of
arguments, memory and the loop's decisions are made anew, by the code that is installed now. With
the run's tokenizer the prompts are compared too: the planner's token for token, the other modules'
by their digest and their length, which is what a record keeps of them; those of endpoints, which
were sent in text, are not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import (
    AgentflowError,
    InfraError,
    MalformedOutput,
    OutOfTime,
    PromptTooLong,
)
from agentflow_verl.engines.interface import Message, Reply
from agentflow_verl.engines.token_engine import TokenEngine
from agentflow_verl.flow.loop import Flow
from agentflow_verl.flow.modules import MODULES
from agentflow_verl.flow.prompts import Prompts, digest_of
from agentflow_verl.tools.session import TrajectoryState
from agentflow_verl.tools.tool_client import ToolServer
from agentflow_verl.tools.toolbox import ToolBox
from agentflow_verl.tools.types import ToolResult, ToolSpec
from agentflow_verl.trajectories.manifest import Setup
from agentflow_verl.trajectories.records import (
    ModuleReply,
    Outcome,
    Tokens,
    Trajectory,
)

IN_TOKENS = ("policy", "base")  # engines whose prompts are rendered and encoded in this process
MEASURED = ("seconds", "started", "timings")  # what a clock said: other in every run
NOT_COMPARED = (*MEASURED, "shared")  # the latter depends on what else was asked meanwhile
DIGEST = "prompt_digest"
ORDER = (
    "analysis",
    "turns",
    "tokens",
    "prompt_ids",
    "plan",
    "call",
    "result",
    "verdict",
    "error",
    "replies",
    "answer",
    "prompt_tokens",
)
AROUND = 60  # characters shown before and after the first that differs


@dataclass(frozen=True)
class Difference:
    """Where the replay departs from the record, and both sides, shortened to what surrounds it."""

    where: str
    recorded: str
    now: str


def timeless(trajectory: Trajectory) -> dict[str, Any]:
    """The record without what clocks measured and without digests of prompts. With deterministic
    engines and tools it is the same in every run.
    """
    plain: dict[str, Any] = _without(trajectory.model_dump(mode="json"), (*NOT_COMPARED, DIGEST))
    return plain


async def replay(
    trajectory: Trajectory, setup: Setup, tokenizer: Any = None, prompts: Prompts | None = None
) -> Trajectory:
    """Run ``trajectory`` again. Where the flow asks for something that the record has not, it ends
    ``infra_error``. ``prompts`` are the shipped ones unless given.
    """
    record = _Record(trajectory)
    now = await _run(record, setup, _encoders(trajectory, setup, tokenizer), prompts)
    if now.outcome.valid and trajectory.scorer_failed:  # after its end: what is replayed
        ending = {name: getattr(trajectory, name) for name in ("outcome", "error", "scorer_failed")}
        return now.model_copy(update=ending)
    return now


def first_difference(
    recorded: Trajectory, now: Trajectory, tokenizer: Any = None
) -> Difference | None:
    """The first in the order in which a trajectory comes to be, turn by turn; None where there is
    none. Prompts are compared where ``tokenizer`` is given, with which ``now`` was made.
    """
    if tokenizer is None or not asked_in_tokens(recorded):
        # The memory's length is an estimate then, and so is what a prompt shows of it.
        return _differ("", timeless(recorded), timeless(now), tokenizer)
    engines = set(IN_TOKENS)  # an endpoint may have refused a longer prompt, which no record says
    if "" in [reply.prompt_digest for reply in recorded.all_replies()]:
        engines = set()  # an older record
    was, is_now = _with_digests(recorded, engines), _with_digests(now, engines)
    return _differ("", was, is_now, tokenizer)


def _with_digests(trajectory: Trajectory, engines: Collection[str]) -> dict[str, Any]:
    """As ``timeless``, with the digests of the prompts of ``engines``."""
    plain = trajectory.model_dump(mode="json")
    replies = list(plain["replies"])
    for turn in plain["turns"]:
        replies += turn["replies"]
    for reply in replies:
        if reply["engine"] not in engines:
            del reply[DIGEST]
    kept: dict[str, Any] = _without(plain, NOT_COMPARED)
    return kept


def asked_in_tokens(trajectory: Trajectory) -> bool:
    """Whether its prompts can be made anew as they were, and so be compared."""
    return any(turn.tokens is not None and turn.tokens.prompt_ids for turn in trajectory.turns)


@dataclass(frozen=True)
class RebuiltPrompt:
    """The prompt of one model call. ``exact`` says whether it is known to be what was sent: its
    digest is the recorded one.
    """

    messages: tuple[Message, ...]
    exact: bool


async def rebuild_prompts(
    trajectory: Trajectory,
    setup: Setup,
    prompts: Prompts | None = None,
    count: Callable[[str], int] | None = None,
) -> list[RebuiltPrompt]:
    """The prompts of all model calls, in the order of the calls; fewer where the flow departs from
    the record.

    A prompt that was shortened to fit its engine is found by its digest among the lengths that the
    flow tries.

    Args:
        count: tokens of a text, by which memory is kept within its budget; the run's tokenizer's.
    """
    rebuilt: list[RebuiltPrompt] = []
    for by_digest in (True, False):
        record = _Record(trajectory, by_digest)
        await _run(record, setup, {}, prompts, count)
        if not by_digest or len(record.asked) == len(trajectory.all_replies()):
            rebuilt = record.asked
            break
    return rebuilt


async def _run(
    record: _Record,
    setup: Setup,
    encoders: Mapping[str, TokenEngine],
    prompts: Prompts | None,
    count: Callable[[str], int] | None = None,
) -> Trajectory:
    engines = {module: _RecordedEngine(module, record, encoders, count) for module in MODULES}
    server = cast(ToolServer, record)  # of which a ToolBox asks nothing but calls
    tools = ToolBox(client=None, homes=[(spec, server) for spec in setup.tools])
    limits = setup.limits.model_copy(update={"time_budget_s": 86_400.0})
    trajectory = record.trajectory
    trained = {reply.module for reply, tokens in trajectory.replies_in_order() if tokens}
    flow = Flow(engines, tools, limits, prompts, trained)
    return await flow.run(trajectory.query, trajectory.id)


class _Record:
    """What was answered, in order. Stands for the servers of all tools.

    ``by_digest`` refuses a prompt as too long that is not the recorded one, so that the flow tries
    the next shorter one.
    """

    def __init__(self, trajectory: Trajectory, by_digest: bool = False):
        self.by_digest = by_digest
        self.asked: list[RebuiltPrompt] = []
        self.replies = trajectory.replies_in_order()
        self.turn = -1
        self.trajectory = trajectory

    def ask(self, messages: Sequence[Message]) -> None:
        """Note the next call's prompt. Raises PromptTooLong."""
        wanted = self.replies[0][0].prompt_digest if self.replies else ""
        exact = wanted == digest_of(messages)
        if self.by_digest and not exact:
            raise PromptTooLong("another prompt was sent")
        if self.replies:
            self.asked.append(RebuiltPrompt(tuple(messages), exact))

    def reply(self, module: str) -> tuple[ModuleReply, Tokens | None]:
        if not self.replies:
            raise self._end(f"the flow now asks the {module}, where the record ends")
        if self.replies[0][0].module != module:
            raise InfraError(
                f"the flow now asks the {module}, where it asked the {self.replies[0][0].module}"
            )
        self.turn += module == "planner"
        return self.replies.pop(0)

    async def call(
        self,
        spec: ToolSpec,
        arguments: dict[str, Any],
        deadline: Deadline,
        state: TrajectoryState | None = None,
    ) -> ToolResult:
        turn = self.trajectory.turns[self.turn]
        if turn.call is None:
            raise InfraError(f"the flow now calls {spec.name}, where it called no tool")
        if turn.result is None and turn.error is not None:
            raise MalformedOutput(turn.error)
        if turn.result is None:
            raise self._end(f"{spec.name} gave no result")
        result = turn.result
        return ToolResult(
            spec.name,
            result.text,
            result.is_error,
            result.truncated,
            result.seconds,
            result.attempts,
        )

    def _end(self, otherwise: str) -> AgentflowError:
        """What cut the recorded trajectory short, if anything did."""
        cut = {Outcome.OUT_OF_TIME: OutOfTime, Outcome.INFRA_ERROR: InfraError}.get(
            self.trajectory.outcome
        )
        return InfraError(otherwise) if cut is None else cut(self.trajectory.error)


class _RecordedEngine:
    """Renders and encodes the prompt as the record's engine did, and gives the recorded reply."""

    def __init__(
        self,
        module: str,
        record: _Record,
        encoders: Mapping[str, TokenEngine],
        count: Callable[[str], int] | None = None,
    ):
        self.name = module
        self.structured = False
        self.has_tokenizer = count is not None or bool(encoders)
        self._record, self._encoders, self._count = record, encoders, count

    def count(self, text: str) -> int:
        if self._count is not None:
            return self._count(text)
        return self._encoders["policy"].count(text) if self._encoders else len(text) // 4 + 1

    async def reply(
        self,
        messages: list[Message],
        *,
        trajectory: str,
        deadline: Deadline,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        ahead = self._record.replies[0][0].engine if self._record.replies else None
        prompt_ids = (
            tuple(self._encoders[ahead].encode(messages))
            if ahead is not None and ahead in self._encoders
            else None
        )
        self._record.ask(messages)
        recorded, tokens = self._record.reply(self.name)
        tokens = tokens or Tokens(prompt_ids=(), response_ids=())
        return Reply(
            text=recorded.text,
            engine=recorded.engine,
            prompt_ids=tokens.prompt_ids if prompt_ids is None else prompt_ids,
            response_ids=tokens.response_ids,
            logprobs=tokens.logprobs,
            prompt_tokens=recorded.prompt_tokens if prompt_ids is None else len(prompt_ids),
            response_tokens=recorded.response_tokens,
            cached_tokens=recorded.cached_tokens,
            cut=recorded.cut,
            weights_first=tokens.weights_first,
            weights_last=tokens.weights_last,
        )


def _encoders(trajectory: Trajectory, setup: Setup, tokenizer: Any) -> dict[str, TokenEngine]:
    if tokenizer is None or not asked_in_tokens(trajectory):
        return {}
    return {
        name: TokenEngine(
            name,
            tokenizer,
            _never,
            {},
            setup.prompt_limits.get(name, sys.maxsize),
            0,
            setup.template,
        )
        for name in IN_TOKENS
    }


async def _never(*_: Any, **__: Any) -> None:
    raise AssertionError("a replay asks no model")


def _without(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, names) for key, item in value.items() if key not in names}
    return [_without(item, names) for item in value] if isinstance(value, list) else value


def _differ(where: str, recorded: Any, now: Any, tokenizer: Any) -> Difference | None:
    if recorded == now:
        return None
    if isinstance(recorded, dict) and isinstance(now, dict):
        names = sorted(
            {**recorded, **now},
            key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name),
        )
        parts = [
            (f"{where}.{name}".lstrip("."), recorded.get(name), now.get(name)) for name in names
        ]
        return next(
            filter(None, (_differ(*part, tokenizer) for part in parts)), None
        ) or Difference(where, _show(recorded), _show(now))
    if where.endswith("_ids") and recorded and now and tokenizer is not None:
        return _differ_in_text(
            where, *(tokenizer.decode(ids, skip_special_tokens=False) for ids in (recorded, now))
        )
    if isinstance(recorded, list) and isinstance(now, list):
        for number, (one, other) in enumerate(zip(recorded, now)):
            if one != other:
                return _differ(f"{where}[{number}]", one, other, tokenizer)
        return Difference(where, f"{len(recorded)} of them", f"{len(now)} of them")
    if isinstance(recorded, str) and isinstance(now, str):
        return _differ_in_text(where, recorded, now)
    return Difference(where, _show(recorded), _show(now))


def _differ_in_text(where: str, recorded: str, now: str) -> Difference:
    same = next(
        (place for place, (one, other) in enumerate(zip(recorded, now)) if one != other),
        min(len(recorded), len(now)),
    )
    shown = slice(max(0, same - AROUND), same + AROUND)
    return Difference(f"{where}, character {same}", repr(recorded[shown]), repr(now[shown]))


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 2 * AROUND else text[: 2 * AROUND] + "…"
