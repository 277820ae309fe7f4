"""Rollout servers as Ray actors. Nothing heavy is imported here: each actor imports this module,
and verl takes ten seconds of a processor.
"""

from __future__ import annotations

import asyncio
import os
import signal
from types import SimpleNamespace
from typing import Any


class Server:
    """Answers at once, or never, and counts what was cancelled in it."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.asked: list[tuple[int, bool]] = []

    async def generate(self, prompt_ids: list[int], adapter: bool = True, **_: Any) -> Any:
        self.asked.append((prompt_ids[0], adapter))
        try:
            if prompt_ids == [0]:
                await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return SimpleNamespace(token_ids=prompt_ids, extra_fields={})

    async def forget(self) -> None:
        self.asked.clear()

    async def seen(self) -> list[tuple[int, bool]]:
        return self.asked

    async def count(self) -> int:
        return self.cancelled


class Model:
    """Says the tokens ``says``; how it breaks comes with the sampling parameters."""

    async def generate(
        self, prompt_ids: list[int], sampling_params: dict[str, Any], **_: Any
    ) -> Any:
        fault = sampling_params["fault"]
        if fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep({"hung": 3600.0, "slow": 0.3}.get(fault, 0.0))
        if fault == "garbage":
            return {"text": "?"}
        return SimpleNamespace(
            token_ids=sampling_params["says"], log_probs=None, stop_reason=None, extra_fields={}
        )
