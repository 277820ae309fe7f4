"""Trajectory to verl's rows, one per call of a trained module, by default per planner turn."""

from __future__ import annotations

from collections.abc import Collection

from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput

from agentflow_verl.trainer.rollout.row_record import FIELD, RowRecord, row_records
from agentflow_verl.trajectories.records import Outcome, Tokens, Trajectory

# key of the whole Trajectory in the last row's extra_fields, until the worker has logged it
RECORD = "agentflow_trajectory"


def to_rows(
    trajectory: Trajectory,
    placeholder_id: int,
    policy_version: int,
    trained: Collection[str] = ("planner",),
) -> list[AgentLoopOutput]:
    """One output per call of a trained module, in the order of the calls, with exactly the token
    ids that were sent and sampled.

    A trajectory without such a call, and one that ended in an infrastructure fault, becomes a
    single placeholder row whose one token is masked: the first still counts in its group's
    statistics, the second is only counted in metrics.

    Args:
        placeholder_id: token id for the placeholder.
        policy_version: version to note where no token was sampled.
    """
    calls = _sampled(trajectory, trained)
    mask = 1
    if not calls or trajectory.outcome is Outcome.INFRA_ERROR:
        # A row needs a token, and a group must not lose a member because it wrote nothing.
        one = (placeholder_id,)
        module = calls[0][0] if calls else _only(trained)
        calls = [(module, Tokens(prompt_ids=one, response_ids=one, logprobs=(0.0,)))]
        mask = 0
    rows = []
    records = row_records(trajectory, [module for module, _ in calls])
    for (_, tokens), record in zip(calls, records):
        row = _row(tokens, trajectory, record, mask, policy_version)
        row.num_turns = max(1, len(trajectory.turns))
        rows.append(row)
    # On the last row only: verl's reward loop reads that one, and the text of all turns would be
    # stored once per turn otherwise.
    rows[-1].extra_fields[RECORD] = trajectory
    return rows


def _only(trained: Collection[str]) -> str:
    """The module that a trajectory without a call counts for: the one that is trained alone, or
    none.
    """
    return next(iter(trained)) if len(trained) == 1 else ""


def _sampled(trajectory: Trajectory, trained: Collection[str]) -> list[tuple[str, Tokens]]:
    """Each call of a trained module that wrote something: the module, and its tokens."""
    found = []
    for reply, tokens in trajectory.replies_in_order():
        if reply.module in trained and tokens is not None and tokens.response_ids:
            found.append((reply.module, tokens))
    return found


def _row(
    tokens: Tokens, trajectory: Trajectory, record: RowRecord, mask: int, policy_version: int
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
        response_mask=[mask] * len(tokens.response_ids),
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
