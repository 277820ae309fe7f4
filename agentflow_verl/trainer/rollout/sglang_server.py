"""What verl's SGLang server leaves out, on GPUs and on a CPU.

verl's server lets a cancelled request run to its end, where vLLM's aborts it; SGLang then refuses
to sleep while it works, with an assertion that ends its scheduler, and so the run
(sglang/srt/managers/scheduler_update_weights_mixin.py:131). It also drops how many tokens of a
prompt came from the prefix cache.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import ray
from verl.workers.rollout import replica as verl_replica
from verl.workers.rollout.replica import RolloutReplica, RolloutReplicaRegistry

from agentflow_verl.trainer.actor_class import wrapped_class

ABORT_AGAIN_S = 0.5
IDLE_TIMEOUT_S = 60.0
"""For aborted requests to leave the scheduler: at most one forward pass of a large batch."""

if TYPE_CHECKING:
    Server: Any
else:  # mixed over verl's server at run time, in ``_load``
    Server = object


class AbortingServer(Server):
    """Over verl's SGLang server: a cancelled ``generate`` ends in SGLang too, and the server sleeps
    once SGLang is idle.
    """

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self._cached_tokens: dict[str, int | None] = {}
        self._aborting: set[asyncio.Task[None]] = set()

    async def launch_server(self, *arguments: Any, **named: Any) -> None:
        await super().launch_server(*arguments, **named)
        if self.node_rank == 0:  # the others have no tokenizer manager that works
            manager = self.tokenizer_manager
            manager.generate_request = self._noting_cached_tokens(manager.generate_request)

    def _noting_cached_tokens(self, generate_request: Any) -> Any:
        """SGLang's ``generate_request``, whose last output verl reads without this field of it."""

        async def noting(obj: Any, request: Any = None) -> AsyncIterator[Any]:
            outputs = generate_request(obj, request)
            try:
                async for output in outputs:
                    # The HTTP endpoint's are not ours; a batch has a list of them.
                    if isinstance(obj.rid, str) and obj.rid in self._cached_tokens:
                        self._cached_tokens[obj.rid] = output["meta_info"].get("cached_tokens")
                    yield output
            finally:
                await outputs.aclose()  # else SGLang's lock is held until it is collected

        return noting

    async def generate(
        self, prompt_ids: Any, sampling_params: dict[str, Any], request_id: str, **named: Any
    ) -> Any:
        self._cached_tokens[request_id] = None
        request = asyncio.ensure_future(
            super().generate(prompt_ids, sampling_params, request_id, **named)
        )
        try:
            # SGLang's coroutine is not cancelled: it holds the lock that keeps new weights out
            # while its request runs.
            output = await asyncio.shield(request)
        except asyncio.CancelledError:
            abort = asyncio.create_task(self._abort(request_id, request))
            self._aborting.add(abort)  # asyncio itself keeps no reference
            abort.add_done_callback(self._aborting.discard)
            raise
        finally:
            cached_tokens = self._cached_tokens.pop(request_id, None)
        if cached_tokens is not None:
            output.extra_fields["num_cached_tokens"] = cached_tokens
        return output

    async def _abort(self, request_id: str, request: asyncio.Future[Any]) -> None:
        """Abort until it is over: SGLang forgets an abort of what its scheduler does not have yet,
        as while generation is paused.
        """
        while not request.done():
            self.tokenizer_manager.abort_request(request_id)
            await asyncio.wait({request}, timeout=ABORT_AGAIN_S)
        if not request.cancelled():
            request.exception()  # nobody waits for it: read, so that asyncio does not report it

    async def sleep(self) -> None:
        await self._wait_until_idle()
        await super().sleep()

    async def release_kv_cache(self) -> None:
        await self._wait_until_idle()
        await super().release_kv_cache()

    async def _wait_until_idle(self) -> None:
        """Wait for what was aborted a moment ago. Raises RuntimeError after IDLE_TIMEOUT_S."""
        if self.node_rank != 0 or not self.config.free_cache_engine:
            return
        # The one question that the scheduler itself answers once it is idle. The cache that this
        # empties is given up next.
        flushed = await self.tokenizer_manager.flush_cache(timeout_s=IDLE_TIMEOUT_S)
        if not flushed.success:
            raise RuntimeError(
                f"SGLang still works on requests {IDLE_TIMEOUT_S:g} s after they were aborted:"
                f" {flushed.message or 'no reason given'}"
            )


def register() -> None:
    """Let ``rollout.name=sglang`` mean verl's replica with an ``AbortingServer``."""
    RolloutReplicaRegistry.register("sglang", _load)


def _load() -> type[RolloutReplica]:
    # Imported when a rollout asks for it: SGLang takes seconds. Through verl's own loader, which
    # stands in for vLLM where that is not installed.
    base: Any = verl_replica._load_sglang()

    class AbortingReplica(base):
        server_class: Any

        def __init__(self, *arguments: Any, **named: Any):
            super().__init__(*arguments, **named)
            server = wrapped_class(self.server_class)
            self.server_class = ray.remote(type("AbortingSGLang", (AbortingServer, server), {}))

    return AbortingReplica
