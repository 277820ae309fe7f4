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
    """One output per planner turn, with exactly the token ids that were sent and sampled.

    A trajectory without such a turn, and one that ended in an infrastructure fault, becomes a
    single placeholder row whose one token is masked: the first still counts in its group's
    statistics, the second is only counted in metrics.

    Args:
        placeholder_id: token id for the placeholder.
        policy_version: version to note where no token was sampled.
    """
    turns = []
    for turn in trajectory.turns:
        if turn.tokens is not None and turn.tokens.response_ids:
            turns.append(turn.tokens)
    trained = 1
    if not turns or trajectory.outcome is Outcome.INFRA_ERROR:
        # A row needs a token, and a group must not lose a member because it wrote nothing.
        one = (placeholder_id,)
        turns = [Tokens(prompt_ids=one, response_ids=one, logprobs=(0.0,))]
        trained = 0
    rows = []
    for tokens, record in zip(turns, row_records(trajectory, len(turns))):
        row = _row(tokens, trajectory, record, trained, policy_version)
        row.num_turns = len(turns)
        rows.append(row)
    # On the last row only: verl's reward loop reads that one, and the text of all turns would be
    # stored once per turn otherwise.
    rows[-1].extra_fields[RECORD] = trajectory
    return rows


def _row(
    tokens: Tokens, trajectory: Trajectory, record: RowRecord, trained: int, policy_version: int
) -> AgentLoopOutput:
    first, last = tokens.weights_first, tokens.weights_last
    # Neither is known where no token was sampled.
    if first is None:
        first = policy_version
    if last is None:
        last = policy_version
    timings = trajectory.timings
    generating = sum(timings.get(module, 0.0) for module in ("planner", "executor", "verifier"))
    return AgentLoopOutput(
        prompt_ids=list(tokens.prompt_ids),
        response_ids=list(tokens.response_ids),
        response_mask=[trained] * len(tokens.response_ids),
        response_logprobs=list(tokens.logprobs) or None,
        metrics=AgentLoopMetrics(
            generate_sequences=generating, tool_calls=timings.get("tools", 0.0)
        ),
        extra_fields={
            FIELD: record,
            "global_steps": last,
            "min_global_steps": first,
            "max_global_steps": last,
        },
    )
