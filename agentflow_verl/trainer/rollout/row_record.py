"""What travels with a row of verl's batch: its trajectory's outcome, and what metrics need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from agentflow_verl.trajectories.records import ModuleReply, Outcome, Record, Trajectory

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
    """Plans of which a part was supplied: what it lacked was clear."""
    malformed_calls: int
    malformed_verdicts: int
    cut_replies: int
    stopped: bool | None = None
    """The verifier's last decision: whether it ended the trajectory. None: it never decided."""
    cached_tokens: dict[str, tuple[int, int]]
    """By engine: prompt tokens from its prefix cache, and in all."""
    timings: dict[str, float]
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
    summary: TrajectorySummary | None = None
    """On the last row of the trajectory."""

    @property
    def valid(self) -> bool:
        """Whether the trajectory counts in its group's statistics and in the loss."""
        return self.outcome.valid


def read_record(extra_fields: Mapping[str, Any]) -> RowRecord | None:
    """The record of a row; None for padding."""
    found = extra_fields.get(FIELD)
    return None if found is None else RowRecord.model_validate(found)


def read_records(extra_fields: Iterable[Mapping[str, Any]]) -> list[RowRecord | None]:
    """As ``read_record``, for each row."""
    return [read_record(fields) for fields in extra_fields]


def is_valid(record: RowRecord | None) -> bool:
    """Whether the row belongs to a trajectory that counts."""
    return record is not None and record.valid


def row_records(
    trajectory: Trajectory, rows: int, split: Literal["train", "val"] = "train"
) -> list[RowRecord]:
    """One per row of the trajectory."""
    each = RowRecord(id=trajectory.id, outcome=trajectory.outcome, split=split)
    last = each.model_copy(update={"summary": summarise(trajectory)})
    return [each] * (rows - 1) + [last]


def summarise(trajectory: Trajectory) -> TrajectorySummary:
    replies = trajectory.all_replies()
    turns = trajectory.turns
    verdicts = [turn.verdict for turn in turns if turn.verdict is not None]
    made = [turn for turn in turns if turn.call is not None and turn.result is not None]
    plans = [turn for turn in turns if turn.plan is not None]
    return TrajectorySummary(
        turns=len(turns),
        planner_tokens=sum(len(turn.tokens.response_ids) for turn in turns if turn.tokens),
        calls=tuple(turn.call.tool for turn in made if turn.call),
        tool_errors=sum(turn.result.is_error for turn in made if turn.result),
        malformed_plans=len(turns) - len(plans),
        completed_plans=sum(bool(turn.plan.supplied) for turn in plans if turn.plan),
        malformed_calls=sum(turn.error is not None for turn in plans),
        malformed_verdicts=sum(not verdict.parsed for verdict in verdicts),
        cut_replies=sum(reply.cut for reply in replies),
        stopped=verdicts[-1].stop if verdicts else None,
        cached_tokens=_cached_tokens(replies),
        timings=dict(trajectory.timings),
        error=trajectory.error,
    )


def _cached_tokens(replies: Sequence[ModuleReply]) -> dict[str, tuple[int, int]]:
    """By engine, where it tells the first: prompt tokens that its prefix cache served, and prompt
    tokens in all.
    """
    found: dict[str, tuple[int, int]] = {}
    for reply in replies:
        if reply.cached_tokens is not None:
            cached, prompt = found.get(reply.engine, (0, 0))
            found[reply.engine] = (cached + reply.cached_tokens, prompt + reply.prompt_tokens)
    return found
