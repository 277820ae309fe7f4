"""Advantages and weights against verl's own GRPO function: ``python -m tests.benchmarks.flow_grpo
--json FILE``.

Each size is timed in turns, ours, verl's and one masked elementwise pass, so that all three meet
the same machine; reported are medians and their ratios. Ours includes the broadcast to tokens of
both columns that the loss reads.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

from agentflow_verl.flow_grpo import advantages, per_token, weights

logger = logging.getLogger("flow_grpo")
SIZES = (1024, 4096, 8192, 32_768, 131_072)
SLOW = 32_768  # verl's loops over rows in Python: it is not timed above
MEMBERS, MAX_TURNS = 8, 5


def rows_of(count: int, length: int) -> dict[str, Tensor]:
    """Groups of eight trajectories of one to five turns, cut off at ``count`` rows."""
    generator = torch.Generator().manual_seed(0)
    turns_I = torch.randint(1, MAX_TURNS + 1, (count,), generator=generator)
    trajectory_R = torch.repeat_interleave(torch.arange(count), turns_I)[:count]
    reward_I = torch.randint(0, 2, (count,), generator=generator).float()
    tokens_R = torch.randint(1, length + 1, (count,), generator=generator)
    return {
        "reward_R": reward_I[trajectory_R],
        "trajectory_R": trajectory_R,
        "group_R": trajectory_R // MEMBERS,
        "valid_R": torch.ones(count, dtype=torch.bool),
        "tokens_R": tokens_R,
        "mask_RL": (torch.arange(length) < tokens_R.unsqueeze(1)).float(),
    }


def timed(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, called in turns after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(rounds + 1):
        for name, call in calls.items():
            # verl's function frees tens of thousands of small tensors, which the allocator sorts in
            # the next call for memory: that is not the next one's work.
            torch.ones(1 << 18)
            start = time.perf_counter()
            call()
            if round_:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def compare(count: int, length: int, rounds: int) -> dict[str, float]:
    rows = rows_of(count, length)
    ids = [rows[name] for name in ("reward_R", "trajectory_R", "group_R", "valid_R")]
    mask_RL = rows["mask_RL"]
    score_RL = torch.zeros(count, length)
    score_RL[:, 0] = rows["reward_R"]
    index = rows["group_R"].numpy()
    # As the trainer has them: the tokens that there are, one row after the other.
    tokens = rows["tokens_R"], torch.ones(int(rows["tokens_R"].sum()))

    def ours() -> tuple[Tensor, Tensor]:
        advantage_R, weight_R = advantages(*ids), weights(*ids, rows["tokens_R"])
        return per_token(advantage_R, *tokens), per_token(weight_R, *tokens)

    calls: dict[str, Callable[[], object]] = {
        "ours": ours,
        "masked_pass": lambda: score_RL * mask_RL,
    }
    if count <= SLOW:
        calls["verl"] = lambda: compute_grpo_outcome_advantage(score_RL, mask_RL, index=index)
    seconds = timed(calls, rounds)
    found = {
        "rows": count,
        "tokens": length,
        **{f"{name}_ms": value * 1e3 for name, value in seconds.items()},
    }
    found["masked_passes"] = seconds["ours"] / seconds["masked_pass"]
    if "verl" in seconds:
        found["times_faster_than_verl"] = seconds["verl"] / seconds["ours"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--tokens", type=int, default=512, help="response tokens of a row")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="three rounds")
    given = parser.parse_args()
    if given.quick:
        given.rounds = 3
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", force=True
    )  # verl has set one up at import
    # As the trainer has on a CPU; with more, on a busy machine each waits for the others.
    torch.set_num_threads(1)
    found = []
    for count in SIZES:
        found.append(compare(count, given.tokens, given.rounds))
        logger.info("  ".join(f"{name} {value:.4g}" for name, value in found[-1].items()))
    per_row = [one["ours_ms"] / one["rows"] for one in found]
    growth = {"per_row_at_most_over_least": max(per_row[1:]) / min(per_row[1:])}
    logger.info(
        "per-row time, largest over smallest from 4k rows on: %.2f",
        growth["per_row_at_most_over_least"],
    )
    if given.json:
        given.json.write_text(json.dumps({"sizes": found, **growth}, indent=2) + "\n")


if __name__ == "__main__":
    main()
