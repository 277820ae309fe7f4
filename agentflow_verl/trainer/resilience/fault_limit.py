"""A run whose servers are down must stop, not train on what is left."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agentflow_verl.core.errors import InfraError
from agentflow_verl.trainer.rollout.row_record import RowRecord

logger = logging.getLogger(__name__)


@dataclass
class SampledFaults:
    """How many trajectories were sampled, and how many of them ended in infrastructure faults.

    Counted over what was *sampled*: with ``algorithm.filter_groups`` the groups that faults have
    thinned never reach a batch.
    """

    groups: int = 0
    trajectories: int = 0
    faults: int = 0
    last_fault: str = ""

    def add_group(self, trajectories: int, faults: Sequence[str]) -> None:
        self.groups += 1
        self.trajectories += trajectories
        self.faults += len(faults)
        if faults:
            self.last_fault = faults[-1]

    def check(self, limit: float) -> None:
        """Raise InfraError when more than ``limit`` of the trajectories ended in faults.

        Args:
            limit: a share, 0 to 1 (``agentflow.max_fault_rate``).
        """
        if self.faults <= limit * self.trajectories:
            return
        reason = (
            f"{self.faults} of {self.trajectories} trajectories ended in infrastructure faults,"
            f" more than agentflow.max_fault_rate={limit}; the last: {self.last_fault}. The policy"
            " was not updated with them; fix the servers and rerun the same command to resume from"
            " the last checkpoint"
        )
        logger.error(reason)
        raise InfraError(reason)


def fault_of(record: RowRecord | None) -> str:
    """The error of a trajectory that ended in an infrastructure fault. It stands in the summary, on
    the trajectory's last row only.
    """
    if record is None or record.summary is None or not record.summary.error:
        return "its trajectory names no error"
    return record.summary.error


def stop_on_faults(records: Iterable[RowRecord | None], limit: float) -> None:
    """``SampledFaults.check`` over a batch.

    Args:
        records: of each row; the last row of a trajectory also has its ``summary``.
    """
    sampled = SampledFaults()
    for record in records:
        if record is not None and record.summary is not None:
            sampled.add_group(1, [] if record.valid else [fault_of(record)])
    sampled.check(limit)
