"""What tool servers keep between the calls of one trajectory, as the caller sees it.

The server that took a trajectory's first call has its variables and files, so the later ones go to
the same URL, and are not repeated once they may have run. Where a server should have something and
no longer has (it was restarted), its answer is an error of the server: the model, which wrote for
what it had defined, is not to blame.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

TRAJECTORY = "agentflow/trajectory"
TRAJECTORY_ENDED = "agentflow/trajectory_ended"
STATE_KEPT = "agentflow/state_kept"


@dataclass
class Kept:
    """What one server has: ``kept`` as it said last. ``tool`` and ``arguments`` are of the last
    call.
    """

    url: str
    tool: str
    arguments: dict[str, Any]
    kept: bool = False


class TrajectoryState:
    """What is kept for one trajectory, by server. Its name is drawn, so that nobody else's calls
    carry the same.
    """

    def __init__(self) -> None:
        self.name = uuid.uuid4().hex
        self.at: dict[str, Kept] = {}

    def meta(self, kept: Kept) -> dict[str, Any]:
        """What a call carries."""
        return {TRAJECTORY: self.name, STATE_KEPT: kept.kept}

    def end_meta(self) -> dict[str, Any]:
        """What a call carries that does not run, and drops what is kept."""
        return {TRAJECTORY: self.name, TRAJECTORY_ENDED: True}
