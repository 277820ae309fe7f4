"""A process of the run that died must end the run: verl would wait for its trajectories for ever.

An agent-loop worker that is killed leaves its questions ``running`` in TransferQueue, and verl's
replay buffer polls until none is. So each poll also looks at the Ray actors that trajectories need.
The run then ends with one line that names what died; rerun with the same command it resumes
from its checkpoint (resumable_trainer.py).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import RayActorError

from agentflow_verl.core.errors import InfraError

EVERY_S = 2.0

logger = logging.getLogger(__name__)


class ActorWatch:
    """Asks each actor whether it lives. A busy one answers late, which says nothing; only a dead
    one answers with an error.
    """

    def __init__(self, actors: Mapping[str, Any], every_s: float = EVERY_S):
        self.actors = dict(actors)
        self.every_s = every_s
        self._asked: dict[str, Any] = {}
        self._next = 0.0

    def check(self) -> None:
        """Raise InfraError for the first actor that is known to be dead. Never waits."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self.every_s
            self._ask(wait_s=0.0)

    def explain(self, wait_s: float = 5.0) -> None:
        """Raise InfraError if one of the actors is why a call failed."""
        self._ask(0.0)
        self._ask(wait_s)

    def _ask(self, wait_s: float) -> None:
        for name, actor in self.actors.items():
            call = self._asked.get(name)
            if call is not None and not ray.wait([call], timeout=wait_s)[0]:
                continue
            try:
                if call is not None:
                    ray.get(call)
                self._asked[name] = actor.__ray_ready__.remote()
            except RayActorError as dead:
                raise self._end(name, dead) from None

    def _end(self, name: str, dead: RayActorError) -> InfraError:
        cause = " ".join(str(dead).split())
        reason = (
            f"the {name} died ({cause[:300]}). Nothing was learnt from this batch; "
            "rerun the same command to resume from the last checkpoint"
        )
        logger.error(reason)
        return InfraError(reason)
