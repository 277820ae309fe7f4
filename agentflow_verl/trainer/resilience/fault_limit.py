"""A run whose servers are down must stop, not train on what is left."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from agentflow_verl.core.errors import InfraError
from agentflow_verl.trainer.rollout.row_record import RowRecord

logger = logging.getLogger(__name__)


def stop_on_faults(records: Sequence[RowRecord | None], limit: float) -> None:
    """Raise InfraError when more than ``limit`` of a batch's trajectories ended in an
    infrastructure fault.

    Args:
        records: of each row; the last row of a trajectory also has its ``summary``.
        limit: a share, 0 to 1 (``agentflow.max_fault_rate``).
    """
    last, faults = 0, []
    for record in records:
        if record is None or record.summary is None:
            continue
        last += 1
        if not record.valid:
            faults.append(record.summary.error)
    if len(faults) <= limit * last:
        return
    reason = (
        f"{len(faults)} of {last} trajectories ended in infrastructure faults, more than"
        f" agentflow.max_fault_rate={limit}; the last: {faults[-1]}. Nothing was learnt from this"
        " batch; mend the servers and start again: the run goes on from its checkpoint"
    )
    logger.error(reason)
    raise InfraError(reason)
