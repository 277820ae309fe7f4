"""What is logged under ``agentflow/``: a figure a trajectory, never a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from agentflow_verl.flow.modules import MODULES
from agentflow_verl.trainer.batching.dealing import BatchIndex
from agentflow_verl.trainer.rollout.row_record import RowRecord
from agentflow_verl.trajectories.records import Outcome

PARTS = (*MODULES, "tools", "paused", "total")


def batch_metrics(
    records: Sequence[RowRecord | None],
    index: BatchIndex,
    valid_R: Tensor,
    score_R: Tensor,
    advantage_R: Tensor,
    loss_share_R: Tensor,
) -> dict[str, float]:
    """Metrics of one batch.

    Args:
        records: of each row; the last row of a trajectory also has its ``summary``.
        score_R: outcome reward, before any penalty.
        loss_share_R: loss weight times tokens: each row's share of the objective.
    """
    last, summaries, outcomes = [], [], Counter[Outcome]()
    for row, record in enumerate(records):
        # padding is a copy of a row, record and all
        if record is None or record.summary is None or index.padding_R[row]:
            continue
        last.append(row)
        summaries.append(record.summary)
        outcomes[record.outcome] += 1
    valid = [row for row in last if valid_R[row]]
    calls = Counter(tool for summary in summaries for tool in summary.calls)
    turns = sum(summary.turns for summary in summaries)
    total = max(1, len(last))
    metrics = {
        "agentflow/trajectories": len(last),
        "agentflow/rows": int((~index.padding_R).sum()),
        "agentflow/success": _mean([float(score_R[row] >= 1.0) for row in valid]),
        "agentflow/reward": _mean([float(score_R[row]) for row in valid]),
        "agentflow/turns": turns / total,
        "agentflow/planner_tokens_per_turn": (
            sum(s.planner_tokens for s in summaries) / max(1, turns)
        ),
        "agentflow/planner_tokens_per_trajectory": (
            sum(s.planner_tokens for s in summaries) / total
        ),
        "agentflow/tool_error_rate": (
            sum(s.tool_errors for s in summaries) / max(1, sum(calls.values()))
        ),
        "agentflow/malformed_plan_rate": (
            sum(s.malformed_plans for s in summaries) / max(1, turns)
        ),
        "agentflow/completed_plan_rate": (
            sum(s.completed_plans for s in summaries) / max(1, turns)
        ),
        "agentflow/malformed_call_rate": (
            sum(s.malformed_calls for s in summaries) / max(1, turns)
        ),
        "agentflow/malformed_verdict_rate": (
            sum(s.malformed_verdicts for s in summaries) / max(1, turns)
        ),
        "agentflow/cut_replies": sum(s.cut_replies for s in summaries) / total,
        "agentflow/objective_mass": float(loss_share_R.sum()),
    }
    metrics |= {
        f"agentflow/outcome/{outcome.value}": outcomes[outcome] / total for outcome in Outcome
    }
    metrics |= {f"agentflow/calls/{tool}": count / total for tool, count in calls.items()}
    metrics |= {
        f"agentflow/seconds/{part}": _mean([s.timings.get(part, 0.0) for s in summaries])
        for part in PARTS
    }
    metrics |= _cache_metrics([s.cached_tokens for s in summaries])
    metrics |= _group_metrics(valid, index, score_R, advantage_R)
    metrics |= _verifier_metrics(
        [(records[row].summary.stopped, float(score_R[row]) >= 1.0) for row in valid]
    )
    metrics |= _share_metrics(index, valid_R, score_R, advantage_R, loss_share_R)
    return metrics


def _cache_metrics(counts: Sequence[dict[str, tuple[int, int]]]) -> dict[str, float]:
    """The share of prompt tokens that prefix caches served, in all and by engine; of the engines
    that tell.
    """
    cached, prompt = Counter(), Counter()
    for count in counts:
        for engine, (tokens, of) in count.items():
            cached[engine] += tokens
            prompt[engine] += of
    shares = {
        f"agentflow/cached_token_share/{engine}": cached[engine] / max(1, prompt[engine])
        for engine in prompt
    }
    return {
        "agentflow/cached_token_share": sum(cached.values()) / max(1, sum(prompt.values())),
        **shares,
    }


def _group_metrics(
    valid: Sequence[int], index: BatchIndex, score_R: Tensor, advantage_R: Tensor
) -> dict[str, float]:
    rewards: dict[int, list[float]] = {}
    for row in valid:
        rewards.setdefault(int(index.group_R[row]), []).append(float(score_R[row]))
    flat = [len(set(group)) == 1 for group in rewards.values()]
    return {
        "agentflow/groups": len(rewards),
        "agentflow/zero_variance_groups": _mean([float(is_flat) for is_flat in flat]),
        "agentflow/thin_groups": _mean([float(len(group) < 2) for group in rewards.values()]),
        "agentflow/advantage_spread": (
            float(torch.stack([advantage_R[row] for row in valid]).std()) if len(valid) > 1 else 0.0
        ),
    }


def _verifier_metrics(verdicts: Sequence[tuple[bool | None, bool]]) -> dict[str, float]:
    """The verifier's last decision against the outcome, of the trajectories in which it decided.

    Args:
        verdicts: of each valid trajectory, whether the verifier stopped it (None: it never spoke),
            and whether its answer is right.
    """
    stopped_right = [right for stopped, right in verdicts if stopped is True]
    went_on_right = [right for stopped, right in verdicts if stopped is False]
    decided = len(stopped_right) + len(went_on_right)
    wrong = stopped_right.count(False)
    missed = went_on_right.count(True)
    return {
        "agentflow/verifier/accuracy": 1 - (wrong + missed) / decided if decided else 0.0,
        "agentflow/verifier/stopped_while_wrong": wrong / max(1, decided),
        "agentflow/verifier/went_on_while_right": missed / max(1, decided),
    }


def _share_metrics(
    index: BatchIndex,
    valid_R: Tensor,
    score_R: Tensor,
    advantage_R: Tensor,
    loss_share_R: Tensor,
) -> dict[str, float]:
    """Where the loss and its gradient come from.

    A row's part of the policy gradient is its share of the loss times |A|. Trajectories are told
    apart by their turns, since 1/T is meant to make them equal.
    """
    rewards: dict[int, set[float]] = {}
    turns = Counter(index.trajectory_R[valid_R].tolist())
    for row in valid_R.nonzero().flatten().tolist():
        rewards.setdefault(int(index.group_R[row]), set()).add(float(score_R[row]))
    without_signal, gradient = 0.0, Counter[int]()
    for row in valid_R.nonzero().flatten().tolist():
        if len(rewards[int(index.group_R[row])]) == 1:
            without_signal += float(loss_share_R[row])
        by_turns = turns[int(index.trajectory_R[row])]
        gradient[by_turns] += float(loss_share_R[row] * advantage_R[row].abs())
    total = sum(gradient.values())
    found = {
        f"agentflow/gradient_share/turns_{count}": share / total if total else 0.0
        for count, share in gradient.items()
    }
    loss = float(loss_share_R.sum())
    found["agentflow/loss_share_without_signal"] = without_signal / loss if loss else 0.0
    return found


def policy_rollout_kl(
    old_logprob_RL: Tensor, rollout_logprob_RL: Tensor, mask_RL: Tensor
) -> dict[str, float]:
    """KL(rollout || policy) a trained token, in nats, by the k3 estimator (as the reference's in
    flow_grpo/): how far the policy that is updated is from the one that sampled, by engine or by
    age."""
    log_ratio_RL = (old_logprob_RL - rollout_logprob_RL).double().masked_fill(mask_RL == 0, 0.0)
    kl_RL = log_ratio_RL.exp() - 1 - log_ratio_RL
    return {"agentflow/policy_rollout_kl": float(kl_RL.sum() / mask_RL.sum().clamp(min=1))}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
