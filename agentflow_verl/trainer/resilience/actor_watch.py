"""A process of the run that died must end the run: verl would wait for its trajectories for ever.

An agent-loop worker that is killed leaves its questions ``running`` in TransferQueue, and verl's
replay buffer polls until none is. So each poll also looks at the Ray actors that trajectories need.
The run then ends with one line that names what died; rerun with the same command it resumes
from its checkpoint (resumable_trainer.py).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Mapping
from typing import Any

import ray
from ray.exceptions import RayActorError

from agentflow_verl.core.errors import InfraError

EVERY_S = 2.0

logger = logging.getLogger(__name__)


class ActorWatch:
    """Asks each actor whether it lives. A busy one answers late, which says nothing; only a dead
    one answers with an error.

    Args:
        actors: by a name for messages.
        every_s: seconds between two questions.
        prompt: names of those that answer at once however busy they are.
        silent_after_s: how long one of these may leave a question unanswered; a server that works
            answers late where more requests wait for it than it takes at a time.
    """

    def __init__(
        self,
        actors: Mapping[str, Any],
        every_s: float = EVERY_S,
        prompt: Collection[str] = (),
        silent_after_s: float = math.inf,
    ):
        self.actors = dict(actors)
        self.every_s = every_s
        self.prompt = frozenset(prompt)
        self.silent_after_s = silent_after_s
        self._asked: dict[str, Any] = {}
        self._asked_at: dict[str, float] = {}
        self._next = 0.0

    def check(self) -> None:
        """Raise InfraError for the first actor that is known to be dead or to hang. Never waits."""
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
                self._check_silence(name)
                continue
            try:
                if call is not None:
                    ray.get(call)
                # Ray's own method of every actor. A call to a dead actor is answered by Ray itself,
                # with the cause; a busy one leaves it pending, so at most one is ever under way.
                self._asked[name] = actor.__ray_ready__.remote()
                self._asked_at[name] = time.monotonic()
            except RayActorError as dead:
                cause = " ".join(str(dead).split())
                raise self._end(f"the {name} died ({cause[:300]})") from None

    def _check_silence(self, name: str) -> None:
        silent_s = time.monotonic() - self._asked_at[name]
        if name in self.prompt and silent_s > self.silent_after_s:
            raise self._end(f"the {name} has not answered for {silent_s:.0f} s")

    def _end(self, event: str) -> InfraError:
        reason = (
            f"{event}. Nothing was learnt from this batch; "
            "rerun the same command to resume from the last checkpoint"
        )
        logger.error(reason)
        return InfraError(reason)
