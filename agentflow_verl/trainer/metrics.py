"""The metrics logged under ``agentflow/``: means over trajectories, never over rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from agentflow_verl.flow.modules import MODULES
from agentflow_verl.trainer.batching.dealing import BatchIndex
from agentflow_verl.trainer.rollout.row_record import RowRecord, TrajectorySummary
from agentflow_verl.trajectories.records import Outcome
from agentflow_verl.trajectories.turn_credit import Attempt, turn_credit

PARTS = (*MODULES, "tools", "paused", "total")
ASKED_FOR = {"planner": "plan", "executor": "call", "verifier": "verdict", "generator": "answer"}
CREDITED_TURNS = 3  # as metrics; the viewer and `agentflow analyse credit` have all


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
    valid_R = valid_R & ~index.padding_R
    last, summaries, outcomes = [], [], Counter[Outcome]()
    for row, record in enumerate(records):
        # verl's padding copies a row with its record, so it must not be counted a second time.
        if record is None or record.summary is None or index.padding_R[row]:
            continue
        last.append(row)
        summaries.append(record.summary)
        outcomes[record.outcome] += 1
    # A trajectory that ended in a fault has a summary, but neither reward nor verdict to count.
    valid, verdicts, attempts = [], [], []
    for row, summary in zip(last, summaries):
        if valid_R[row]:
            success = float(score_R[row]) >= 1.0
            valid.append(row)
            verdicts.append((summary.stopped, success))
            group = int(index.group_R[row])  # in one step a question has one group
            attempts.append(Attempt(group, group, success, summary.choices))
    total = max(1, len(last))
    metrics = {
        "agentflow/trajectories": len(last),
        "agentflow/rows": int((~index.padding_R).sum()),
        "agentflow/success": _mean([float(score_R[row] >= 1.0) for row in valid]),
        "agentflow/reward": _mean([float(score_R[row]) for row in valid]),
        **_summary_metrics(summaries),
        **_malformed_metrics(summaries),
        "agentflow/objective_mass": float(loss_share_R.sum()),
    }
    for outcome in Outcome:
        metrics[f"agentflow/outcome/{outcome.value}"] = outcomes[outcome] / total
    metrics |= _call_metrics(summaries)
    for part in PARTS:
        seconds = [summary.timings.get(part, 0.0) for summary in summaries]
        metrics[f"agentflow/seconds/{part}"] = _mean(seconds)
    metrics |= _cache_metrics(summaries)
    metrics |= _group_metrics(valid, index, score_R, advantage_R)
    metrics |= _verifier_metrics(verdicts)
    metrics |= _credit_metrics(attempts)
    turns = {int(index.trajectory_R[row]): summary.turns for row, summary in zip(last, summaries)}
    metrics |= _share_metrics(index, valid_R, score_R, advantage_R, loss_share_R, turns)
    return metrics


def _summary_metrics(summaries: Sequence[TrajectorySummary]) -> dict[str, float]:
    """Counts per trajectory or per turn, of all trajectories, faults included."""
    sums: Counter[str] = Counter()
    for summary in summaries:
        sums.update(
            turns=summary.turns,
            calls=len(summary.calls),
            planner_tokens=summary.planner_tokens,
            tool_errors=summary.tool_errors,
            completed_plans=summary.completed_plans,
            cut_replies=summary.cut_replies,
            shared_calls=summary.shared_calls,
            shared_tokens=summary.shared_tokens,
        )
    total, turns = max(1, len(summaries)), max(1, sums["turns"])
    return {
        "agentflow/turns": sums["turns"] / total,
        "agentflow/planner_tokens_per_turn": sums["planner_tokens"] / turns,
        "agentflow/planner_tokens_per_trajectory": sums["planner_tokens"] / total,
        "agentflow/tool_error_rate": sums["tool_errors"] / max(1, sums["calls"]),
        "agentflow/completed_plan_rate": sums["completed_plans"] / turns,
        "agentflow/cut_replies": sums["cut_replies"] / total,
        "agentflow/shared_calls": sums["shared_calls"] / total,
        "agentflow/shared_call_tokens": sums["shared_tokens"] / total,
    }


def _malformed_metrics(summaries: Sequence[TrajectorySummary]) -> dict[str, float]:
    """Of what each module was asked for, the share that could not be used; of the plans that can
    be read, the share that names no tool there is. Of all trajectories, faults included.
    """
    bad: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    unknown = 0
    for summary in summaries:
        unknown += summary.unknown_tools
        for module, (malformed, count) in summary.malformed.items():
            bad[module] += malformed
            asked[module] += count
    readable = asked["planner"] - bad["planner"]
    metrics = {"agentflow/unknown_tool_rate": _ratio(unknown, readable)}
    for module, what in ASKED_FOR.items():
        metrics[f"agentflow/malformed_{what}_rate"] = _ratio(bad[module], asked[module])
    return metrics


def _call_metrics(summaries: Sequence[TrajectorySummary]) -> dict[str, float]:
    """Calls of each tool per trajectory."""
    calls: Counter[str] = Counter()
    for summary in summaries:
        calls.update(summary.calls)
    metrics = {}
    for tool, count in calls.items():
        metrics[f"agentflow/calls/{tool}"] = count / len(summaries)
    return metrics


def _cache_metrics(summaries: Sequence[TrajectorySummary]) -> dict[str, float]:
    """The share of prompt tokens served by prefix caches, overall and per engine, of the engines
    that report it. Nothing where none does.
    """
    cached: Counter[str] = Counter()
    prompt: Counter[str] = Counter()
    for summary in summaries:
        for engine, (cached_tokens, prompt_tokens) in summary.cached_tokens.items():
            cached[engine] += cached_tokens
            prompt[engine] += prompt_tokens
    if not prompt:
        return {}
    name = "agentflow/cached_token_share"
    shares = {name: sum(cached.values()) / max(1, sum(prompt.values()))}
    for engine in prompt:
        shares[f"{name}/{engine}"] = cached[engine] / max(1, prompt[engine])
    return shares


def _group_metrics(
    valid: Sequence[int], index: BatchIndex, score_R: Tensor, advantage_R: Tensor
) -> dict[str, float]:
    """How many groups there are, and how many of them give no signal: all rewards equal, or fewer
    than two valid trajectories.
    """
    rewards: dict[int, list[float]] = {}
    for row in valid:
        rewards.setdefault(int(index.group_R[row]), []).append(float(score_R[row]))
    groups = rewards.values()
    spread = 0.0
    if len(valid) > 1:  # the sample deviation of one value is nan
        spread = float(advantage_R[list(valid)].std())
    return {
        "agentflow/groups": len(rewards),
        "agentflow/zero_variance_groups": _mean([float(len(set(group)) == 1) for group in groups]),
        "agentflow/thin_groups": _mean([float(len(group) < 2) for group in groups]),
        "agentflow/advantage_spread": spread,
    }


def _verifier_metrics(verdicts: Sequence[tuple[bool | None, bool]]) -> dict[str, float]:
    """The verifier's last decision compared with the outcome, for trajectories in which it decided.

    Args:
        verdicts: of each valid trajectory, whether the verifier stopped it (None: it made no
            decision), and whether its answer is right.
    """
    counts = Counter(verdicts)
    wrong, missed = counts[True, False], counts[False, True]
    decided = wrong + missed + counts[True, True] + counts[False, False]
    accuracy = 0.0
    if decided:
        accuracy = 1 - (wrong + missed) / decided
    return {
        "agentflow/verifier/accuracy": accuracy,
        "agentflow/verifier/stopped_while_wrong": wrong / max(1, decided),
        "agentflow/verifier/went_on_while_right": missed / max(1, decided),
    }


def _credit_metrics(attempts: Sequence[Attempt]) -> dict[str, float]:
    """By turn: success with a tool, a verdict or an error, minus that of its group."""
    metrics = {}
    for credit in turn_credit(attempts):
        if credit.difference is not None and credit.turn <= CREDITED_TURNS:
            name = f"turn_{credit.turn}/{credit.aspect}/{credit.choice}"
            metrics[f"agentflow/turn_credit/{name}"] = credit.difference
    return metrics


def _share_metrics(
    index: BatchIndex,
    valid_R: Tensor,
    score_R: Tensor,
    advantage_R: Tensor,
    loss_share_R: Tensor,
    turns: Mapping[int, int],
) -> dict[str, float]:
    """Which trajectories the loss and its gradient come from.

    A row's part of the policy gradient is its share of the loss times |A|. Trajectories are grouped
    by their number of ``turns``, since the weight 1/T is meant to make them contribute equally.
    """
    rewards: dict[int, set[float]] = {}
    for row in valid_R.nonzero().flatten().tolist():
        rewards.setdefault(int(index.group_R[row]), set()).add(float(score_R[row]))
    without_signal = 0.0
    gradient: defaultdict[int, float] = defaultdict(float)
    for row in valid_R.nonzero().flatten().tolist():
        if len(rewards[int(index.group_R[row])]) == 1:
            without_signal += float(loss_share_R[row])
        by_turns = max(1, turns[int(index.trajectory_R[row])])
        gradient[by_turns] += float(loss_share_R[row] * advantage_R[row].abs())
    shares = {}
    total = sum(gradient.values())
    for count, share in gradient.items():
        shares[f"agentflow/gradient_share/turns_{count}"] = _ratio(share, total)
    loss = float(loss_share_R.sum())
    shares["agentflow/loss_share_without_signal"] = _ratio(without_signal, loss)
    return shares


def module_metrics(
    modules: Sequence[str],
    module_R: Tensor,
    advantage_R: Tensor,
    weight_R: Tensor,
    columns: Mapping[str, Tensor],
) -> dict[str, float]:
    """Of each trained module, unless it is the planner alone: its trained tokens, its share of the
    loss, the deviation of its rows' advantages, and its KL to the reference where there is one.

    Args:
        columns: of the batch, padded: ``response_mask``, ``old_log_probs``, ``ref_log_prob``.
    """
    metrics: dict[str, float] = {}
    if list(modules) == ["planner"]:  # then the batch's own metrics say it
        return metrics
    mask_RL = columns["response_mask"]
    tokens_R = mask_RL.sum(-1)
    for number, module in enumerate(modules):
        own_R = (module_R == number) & (weight_R > 0)
        name = f"agentflow/trained/{module}"
        metrics[f"{name}/rows"] = int(own_R.sum())
        metrics[f"{name}/tokens"] = float(tokens_R[own_R].sum())
        metrics[f"{name}/loss_share"] = float((weight_R * tokens_R)[own_R].sum())
        spread = advantage_R[own_R].std() if own_R.sum() > 1 else 0.0
        metrics[f"{name}/advantage_spread"] = float(spread)
        own_RL = own_R[:, None] & mask_RL.bool()  # empty where rejection left it no token
        if "ref_log_prob" in columns and own_RL.any():
            log_ratio = (columns["ref_log_prob"] - columns["old_log_probs"])[own_RL].double()
            metrics[f"{name}/kl"] = float((torch.expm1(log_ratio) - log_ratio).mean())
    return metrics


def policy_rollout_kl(
    old_logprob_RL: Tensor, rollout_logprob_RL: Tensor, mask_RL: Tensor
) -> dict[str, float]:
    """KL(rollout || policy) per trained token, in nats, by the k3 estimator (as for the reference
    policy in flow_grpo/): how far the policy that is updated is from the one that sampled, because
    of another engine or of older weights.
    """
    # In double precision, and by expm1: the estimate is the small difference of numbers close to 1.
    # Of trained tokens alone: padding holds arbitrary values.
    log_ratio = (old_logprob_RL - rollout_logprob_RL)[mask_RL.bool()].double()
    kl = torch.expm1(log_ratio) - log_ratio
    return {"agentflow/policy_rollout_kl": float(kl.sum() / max(1, len(kl)))}


def _mean(values: Sequence[float]) -> float:
    return _ratio(sum(values), len(values))


def _ratio(part: float, whole: float) -> float:
    """``part / whole``; 0 where ``whole`` is 0."""
    if not whole:
        return 0.0
    return part / whole
