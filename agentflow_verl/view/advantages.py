"""The advantage that a logged trajectory was trained with: ``flow_grpo`` itself, over the rows that the log describes."""

from __future__ import annotations

from collections.abc import Sequence

from agentflow_verl.flow_grpo import FlowGRPO, advantages
from agentflow_verl.view.runs import Entry


def advantages_of(entries: Sequence[Entry], options: FlowGRPO | None) -> list[float | None]:
    """A_i of each entry. None where there is none: validation, a fault, another estimator."""
    import torch  # seconds: only once there is something to show

    if options is None:
        return [None] * len(entries)
    trained = [position for position, entry in enumerate(entries) if entry.split == "train"]
    groups: dict[tuple[int, str], int] = {}
    rows: list[tuple[float, int, int, bool]] = []
    last = []  # a row of each trained entry
    for position in trained:
        entry = entries[position]
        group = groups.setdefault((entry.step, entry.group), len(groups))
        rows += [(entry.reward or 0.0, position, group, counts(entry))] * max(1, entry.rows)
        last.append(len(rows) - 1)
    if not rows:
        return [None] * len(entries)
    reward_R, trajectory_R, group_R, valid_R = (torch.tensor(column) for column in zip(*rows))
    advantage_R = advantages(reward_R, trajectory_R, group_R, valid_R, options).tolist()
    found: list[float | None] = [None] * len(entries)
    for position, row in zip(trained, last):
        if counts(entries[position]):
            found[position] = advantage_R[row]
    return found


def counts(entry: Entry) -> bool:
    """Whether the entry is in its group's statistics."""
    return entry.outcome.valid and entry.reward is not None
