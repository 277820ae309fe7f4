"""A run whose servers are down must stop, not train on what is left."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from agentflow_verl.core.errors import InfraError
from agentflow_verl.trajectories.records import Outcome

logger = logging.getLogger(__name__)


def stop_on_faults(ours: Sequence[dict[str, Any]], limit: float) -> None:
    """Raise InfraError when more than ``limit`` of a batch's trajectories ended in an
    infrastructure fault.

    Args:
        ours: the ``agentflow`` dictionary of each row; the last row of a trajectory also has its
            ``summary``. limit: a share, 0 to 1 (``agentflow.max_fault_rate``).
    """
    last = [row for row in ours if "summary" in row]
    faults = [
        row["summary"]["error"] for row in last if row["outcome"] == Outcome.INFRA_ERROR.value
    ]
    if len(faults) <= limit * len(last):
        return
    reason = (
        f"{len(faults)} of {len(last)} trajectories ended in infrastructure faults, more than"
        f" agentflow.max_fault_rate={limit}; the last: {faults[-1]}. Nothing was learnt from this"
        " batch; mend the servers and start again: the run goes on from its checkpoint"
    )
    logger.error(reason)
    raise InfraError(reason)
