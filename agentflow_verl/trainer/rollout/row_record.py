"""The record that travels with each row of verl's batch: its trajectory's outcome, and what metrics
need.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from agentflow_verl.trajectories.records import ModuleReply, Outcome, Record, Trajectory
from agentflow_verl.trajectories.turn_credit import TurnChoices, choices_of

FIELD = "agentflow"  # key of the RowRecord in verl's extra_fields


class TrajectorySummary(Record):
    """What metrics need of a trajectory, small enough to travel with its last row."""

    turns: int
    planner_tokens: int
    calls: tuple[str, ...]
    """The tool of each call that was made."""
    tool_errors: int
    malformed_plans: int
    completed_plans: int = 0
    """Plans with a missing part that could be inferred and was supplied."""
    malformed_calls: int
    malformed_verdicts: int
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
    """Each row's module as its place in ``trained``; 0 for rows without a trained token, which have
    no weight.
    """
    ids = []
    for record in records:
        known = record is not None and record.module in trained
        ids.append(trained.index(record.module) if known and record else 0)
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
    tool_errors = 0
    malformed_plans = completed_plans = malformed_calls = malformed_verdicts = 0
    calls: list[str] = []
    stopped: bool | None = None
    for turn in trajectory.turns:
        if turn.plan is None:
            malformed_plans += 1
        else:
            completed_plans += bool(turn.plan.supplied)
            malformed_calls += turn.error is not None
        if turn.call is not None and turn.result is not None:
            calls.append(turn.call.tool)
            tool_errors += turn.result.is_error
        if turn.verdict is not None:
            malformed_verdicts += not turn.verdict.parsed
            stopped = turn.verdict.stop
    return TrajectorySummary(
        turns=len(trajectory.turns),
        planner_tokens=planner_tokens,
        calls=tuple(calls),
        tool_errors=tool_errors,
        malformed_plans=malformed_plans,
        completed_plans=completed_plans,
        malformed_calls=malformed_calls,
        malformed_verdicts=malformed_verdicts,
        cut_replies=sum(reply.cut for reply in replies),
        shared_calls=sum(reply.shared for reply in replies),
        shared_tokens=sum(reply.response_tokens for reply in replies if reply.shared),
        stopped=stopped,
        cached_tokens=_cached_tokens(replies),
        timings=dict(trajectory.timings),
        choices=tuple(map(choices_of, trajectory.turns)),
        error=trajectory.error,
    )


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
