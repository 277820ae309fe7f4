"""A time limit on what the trainer tells the policy's rollout servers: a server that hangs must end
the run.

verl waits without a limit for its servers to sleep, wake up, abort requests or take new weights. A
server that hangs lets each trajectory end in a fault, and then the trainer itself waits for it.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from agentflow_verl.core.errors import InfraError

if TYPE_CHECKING:
    from verl.checkpoint_engine.base import CheckpointEngineManager

ANSWER_S = 5.0
"""How long a server may take to say that it is there, once a call to it was late."""

logger = logging.getLogger(__name__)


class LimitedManager:
    """verl's ``CheckpointEngineManager``, as the trainer calls it, with a limit on each call.

    Args:
        manager: verl's, or a subclass; what it calls of itself has no limit of its own.
        limit_s: seconds (``agentflow.server_timeout_s``).
    """

    def __init__(self, manager: CheckpointEngineManager, limit_s: float):
        self.manager = manager
        self.limit_s = limit_s
        self.told: Mapping[str, Any] = {}
        """Other Ray actors that calls wait for, by a name for messages."""

    def sleep_replicas(self) -> None:
        self._call(self.manager.sleep_replicas, "go to sleep")

    def abort_replicas(self, reject_request: bool = False) -> None:
        self._call(lambda: self.manager.abort_replicas(reject_request), "abort their requests")

    def resume_generation_replicas(self) -> None:
        self._call(self.manager.resume_generation_replicas, "go on generating")

    def update_weights(self, global_steps: int | None = None) -> Any:
        return self._call(lambda: self.manager.update_weights(global_steps), "take new weights")

    def servers(self) -> dict[str, Any]:
        """The Ray actors of all servers, by a name for messages."""
        named = {}
        for replica in self.manager.replicas:
            for node, server in enumerate(replica.servers):
                name = f"policy server {replica.replica_rank}"
                if len(replica.servers) > 1:
                    name = f"{name}, node {node}"
                named[name] = server
        return named

    def _call(self, call: Callable[[], Any], purpose: str) -> Any:
        try:
            return within(call, self.limit_s)
        except TimeoutError:
            event = f"did not {purpose} within agentflow.server_timeout_s={self.limit_s:g} s"
            raise end(f"{event} ({self._who_hangs()})") from None
        except RayTaskError as fault:
            event = f"could not {purpose}: {type(fault.cause).__name__}: {fault.cause}"
            raise end(event[:400]) from fault

    def _who_hangs(self) -> str:
        silent = without_answer({**self.servers(), **self.told}, ANSWER_S)
        if silent:
            return f"no answer from {', '.join(silent)}"
        return "all of them answer, so that an engine behind one of them hangs"


def end(event: str) -> InfraError:
    """What ends the run, logged."""
    reason = (
        f"the policy's rollout servers {event}; rerun the same command to resume from the last"
        " checkpoint"
    )
    logger.error(reason)
    return InfraError(reason)


def within(call: Callable[[], Any], limit_s: float) -> Any:
    """The result of ``call``, which runs in a thread of its own. Raises TimeoutError.

    A daemon thread, since verl blocks in ``ray.get`` within its coroutines: asyncio could not
    interrupt that, and a thread pool would wait for it at the program's end.
    """
    results: queue.Queue[tuple[bool, Any]] = queue.Queue(maxsize=1)

    def run() -> None:
        try:
            results.put((True, call()))
        except BaseException as error:
            results.put((False, error))

    threading.Thread(target=run, name="control of servers", daemon=True).start()
    try:
        succeeded, result = results.get(timeout=limit_s)
    except queue.Empty:
        raise TimeoutError(f"no result within {limit_s:g} s") from None
    if not succeeded:
        raise result
    return result


def without_answer(actors: Mapping[str, Any], wait_s: float) -> list[str]:
    """Names of the Ray actors that do not answer within ``wait_s`` seconds, dead ones included."""
    asked = {name: actor.__ray_ready__.remote() for name, actor in actors.items()}
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=wait_s)
    return [name for name, call in asked.items() if not _answered(call)]


def _answered(call: Any) -> bool:
    if not ray.wait([call], timeout=0)[0]:
        return False
    try:
        ray.get(call)
    except RayActorError:
        return False
    return True
