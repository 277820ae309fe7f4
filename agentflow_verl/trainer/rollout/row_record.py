"""The record that travels with each row of verl's batch: its trajectory's outcome, and what metrics
need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from agentflow_verl.trajectories.records import (
    Mistake,
    ModuleReply,
    Outcome,
    Record,
    Trajectory,
)
from agentflow_verl.trajectories.turn_credit import TurnChoices, choices_of

FIELD = "agentflow"  # key of the RowRecord in verl's extra_fields


class TrajectorySummary(Record):
    """What metrics need of a trajectory, small enough to travel with its last row."""

    turns: int
    planner_tokens: int
    calls: tuple[str, ...]
    """The tool of each call that was made."""
    tool_errors: int
    malformed: dict[str, tuple[int, int]]
    """By module: answers that could not be used as what was asked for, and answers in total."""
    unknown_tools: int
    """Plans that can be read and name no tool there is; the executor was not asked."""
    completed_plans: int = 0
    """Plans with a missing part that could be inferred and was supplied."""
    cut_replies: int
    shared_calls: int = 0
    """Model calls that an equal call's answer stood in for."""
    shared_tokens: int = 0
    """Tokens of those answers."""
    stopped: bool | None = None
    """The verifier's last decision: whether it ended the trajectory. None: it never decided."""
    cached_tokens: dict[str, tuple[int, int]]
    """By engine: prompt tokens from its prefix cache, and in total."""
    timings: dict[str, float]
    choices: tuple[TurnChoices, ...] = ()
    """What was done, turn by turn."""
    error: str | None


class RowRecord(Record):
    """In ``extra_fields[FIELD]`` of every row but verl's padding.

    verl dumps it to a dict on the way (``AgentLoopOutput.as_dict``): ``read_record`` makes it a
    record again.
    """

    id: str
    """The trajectory's."""
    outcome: Outcome
    split: Literal["train", "val"] = "train"
    module: str = "planner"
    """Whose tokens the row trains."""
    summary: TrajectorySummary | None = None
    """On the last row of the trajectory."""

    @property
    def valid(self) -> bool:
        """Whether the trajectory counts in its group's statistics and in the loss."""
        return self.outcome.valid


def read_record(extra_fields: Mapping[str, Any]) -> RowRecord | None:
    """The record of a row; None for padding."""
    found = extra_fields.get(FIELD)
    if found is None:
        return None
    return RowRecord.model_validate(found)


def read_records(extra_fields: Iterable[Mapping[str, Any]]) -> list[RowRecord | None]:
    """As ``read_record``, for each row."""
    return list(map(read_record, extra_fields))


def is_valid(record: RowRecord | None) -> bool:
    """Whether the row belongs to a trajectory that counts."""
    return record is not None and record.valid


def module_ids(records: Sequence[RowRecord | None], trained: Sequence[str]) -> Tensor:
    """Each row's module as its place in ``trained``; ``len(trained)`` for padding, and for what
    stands for a trajectory that called none of several.
    """
    places = {module: place for place, module in enumerate(trained)}
    ids = []
    for record in records:
        module = record.module if record is not None else ""
        ids.append(places.get(module, len(trained)))
    return torch.tensor(ids)


def row_records(
    trajectory: Trajectory, modules: Sequence[str], split: Literal["train", "val"] = "train"
) -> list[RowRecord]:
    """One record per row of the trajectory, whose module is given; the last one has the summary, so
    that metrics count the trajectory once.
    """
    records = []
    for module in modules:
        records.append(
            RowRecord(id=trajectory.id, outcome=trajectory.outcome, split=split, module=module)
        )
    records[-1] = records[-1].model_copy(update={"summary": summarise(trajectory)})
    return records


def summarise(trajectory: Trajectory) -> TrajectorySummary:
    """Count what metrics need of a trajectory's turns and replies."""
    replies = trajectory.all_replies()
    planner_tokens = sum(reply.response_tokens for reply in replies if reply.module == "planner")
    tool_errors = completed_plans = 0
    calls: list[str] = []
    stopped: bool | None = None
    for turn in trajectory.turns:
        completed_plans += turn.plan is not None and bool(turn.plan.supplied)
        if turn.call is not None and turn.result is not None:
            calls.append(turn.call.tool)
            tool_errors += turn.result.is_error
        if turn.verdict is not None:
            stopped = turn.verdict.stop
    return TrajectorySummary(
        turns=len(trajectory.turns),
        planner_tokens=planner_tokens,
        calls=tuple(calls),
        tool_errors=tool_errors,
        malformed=_malformed(trajectory),
        unknown_tools=sum(turn.mistake is Mistake.UNKNOWN_TOOL for turn in trajectory.turns),
        completed_plans=completed_plans,
        cut_replies=sum(reply.cut for reply in replies),
        shared_calls=sum(reply.shared for reply in replies),
        shared_tokens=sum(reply.response_tokens for reply in replies if reply.shared),
        stopped=stopped,
        cached_tokens=_cached_tokens(replies),
        timings=dict(trajectory.timings),
        choices=tuple(map(choices_of, trajectory.turns)),
        error=trajectory.error,
    )


def _malformed(trajectory: Trajectory) -> dict[str, tuple[int, int]]:
    """See ``TrajectorySummary.malformed``. A mistake counts for the module that wrote it: a plan's
    unknown tool, or a context too long for the executor, is none of the executor's.
    """
    bad: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for turn in trajectory.turns:
        asked["planner"] += 1
        bad["planner"] += turn.plan is None
        if any(reply.module == "executor" for reply in turn.replies):
            asked["executor"] += 1
            bad["executor"] += turn.mistake is Mistake.UNUSABLE_CALL
        if turn.verdict is not None:
            asked["verifier"] += 1
            bad["verifier"] += not turn.verdict.parsed
    if any(reply.module == "generator" for reply in trajectory.replies):
        asked["generator"] += 1
        bad["generator"] += not trajectory.answer
    return {module: (bad[module], count) for module, count in asked.items()}


def _cached_tokens(replies: Sequence[ModuleReply]) -> dict[str, tuple[int, int]]:
    """Per engine that reports cached tokens: prompt tokens served by its prefix cache, and prompt
    tokens in total.
    """
    found: dict[str, tuple[int, int]] = {}
    for reply in replies:
        if reply.cached_tokens is not None and not reply.shared:
            cached, prompt = found.get(reply.engine, (0, 0))
            found[reply.engine] = (cached + reply.cached_tokens, prompt + reply.prompt_tokens)
    return found
