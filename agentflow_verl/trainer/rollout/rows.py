"""Trajectory to verl's rows, one per planner turn."""

from __future__ import annotations

from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput

from agentflow_verl.trainer.rollout.row_record import FIELD, RowRecord, row_records
from agentflow_verl.trajectories.records import Outcome, Tokens, Trajectory

# key of the whole Trajectory in the last row's extra_fields, until the worker has logged it
RECORD = "agentflow_trajectory"


def to_rows(
    trajectory: Trajectory, placeholder_id: int, policy_version: int
) -> list[AgentLoopOutput]:
    """One output a planner turn, holding exactly the ids that were sent and sampled.

    A trajectory without such a turn, and one that ended in an infrastructure fault, becomes a
    single placeholder row whose one token is masked: the first still counts in its group's
    statistics, the second is only counted in metrics.

    Args:
        placeholder_id: token id for the placeholder.
        policy_version: version to note where no token was sampled.
    """
    turns = [
        turn.tokens
        for turn in trajectory.turns
        if turn.tokens is not None and turn.tokens.response_ids
    ]
    if not turns or trajectory.outcome is Outcome.INFRA_ERROR:
        turns = [
            Tokens(prompt_ids=(placeholder_id,), response_ids=(placeholder_id,), logprobs=(0.0,))
        ]
        trained = 0
    else:
        trained = 1
    rows = [
        _row(tokens, trajectory, record, trained, policy_version)
        for tokens, record in zip(turns, row_records(trajectory, len(turns)))
    ]
    for row in rows:
        row.num_turns = len(turns)
    rows[-1].extra_fields[RECORD] = trajectory
    return rows


def _row(
    tokens: Tokens, trajectory: Trajectory, record: RowRecord, trained: int, policy_version: int
) -> AgentLoopOutput:
    first = policy_version if tokens.weights_first is None else tokens.weights_first
    last = policy_version if tokens.weights_last is None else tokens.weights_last
    return AgentLoopOutput(
        prompt_ids=list(tokens.prompt_ids),
        response_ids=list(tokens.response_ids),
        response_mask=[trained] * len(tokens.response_ids),
        response_logprobs=list(tokens.logprobs) or None,
        metrics=AgentLoopMetrics(
            generate_sequences=sum(
                trajectory.timings.get(module, 0.0)
                for module in ("planner", "executor", "verifier")
            ),
            tool_calls=trajectory.timings.get("tools", 0.0),
        ),
        extra_fields={
            FIELD: record,
            "global_steps": last,
            "min_global_steps": first,
            "max_global_steps": last,
        },
    )
