"""Hundreds of trajectories in one event loop, with real prompts and a real tokenizer: how long the
loop is ever held up.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from agentflow_verl.config.limits import Limits
from agentflow_verl.core import gc_tuning as garbage
from agentflow_verl.engines.token_engine import TokenEngine
from agentflow_verl.flow.loop import Flow
from agentflow_verl.flow.modules import MODULES
from agentflow_verl.trajectories.log import ScoredTrajectory, TrajectoryLog, read_log
from agentflow_verl.trajectories.records import Outcome
from tests.flow.fakes import ANSWER, CALL, CONTINUE, PLAN, ScriptedTools

BASE = Path(__file__).parents[2] / "recipes" / "quickstart" / "base"
TRAJECTORIES = 200
PAGE = (
    "The telescope was first described in the Netherlands, in 1608, by a maker of spectacles. " * 45
)  # about 4,000 characters

logger = logging.getLogger(__name__)


class Watchdog:
    """Times every step that the event loop takes: seconds of its thread's CPU, which other
    processes do not lengthen.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.steps: list[float] = []
        step = asyncio.events.Handle._run

        def timed(handle: asyncio.Handle) -> None:
            began = time.thread_time()
            step(handle)
            self.steps.append(time.thread_time() - began)

        monkeypatch.setattr(asyncio.events.Handle, "_run", timed)


class WatchedTokenizer:
    """A tokenizer that notes, per text that it reads, whether it ran on the event loop's thread."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self.here: list[bool] = []
        self.seconds = 0.0

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def _timed(self, work, *arguments, **options):
        self.here.append(threading.current_thread() is threading.main_thread())
        began = time.thread_time()
        try:
            return work(*arguments, **options)
        finally:
            self.seconds += time.thread_time() - began

    def encode(self, *arguments, **options):
        return self._timed(self._tokenizer.encode, *arguments, **options)

    def apply_chat_template(self, *arguments, **options):
        return self._timed(self._tokenizer.apply_chat_template, *arguments, **options)


@pytest.fixture
def settled_garbage() -> Iterator[None]:
    before = gc.get_threshold()
    garbage.settle()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


class Output:
    """As verl's TokenOutput."""

    def __init__(self, token_ids):
        self.token_ids, self.log_probs, self.stop_reason, self.extra_fields = (
            token_ids,
            [-0.1] * len(token_ids),
            "completed",
            {},
        )


def engine(module: str, text: str, tokenizer: WatchedTokenizer) -> TokenEngine:
    ids = tokenizer._tokenizer.encode(text, add_special_tokens=False)
    waits = random.Random(module)

    async def generate(request_id, *, prompt_ids, sampling_params):
        await asyncio.sleep(waits.uniform(0.0, 0.05))
        return Output(ids)

    return TokenEngine(module, tokenizer, generate, {}, 100_000, 500)


async def test_the_loop_never_waits_for_a_tokenizer_or_a_disk(
    monkeypatch, tmp_path, settled_garbage, record_property
):
    tokenizer = WatchedTokenizer(AutoTokenizer.from_pretrained(BASE))
    said = {
        "analyst": "Look it up.",
        "planner": PLAN,
        "executor": CALL,
        "verifier": CONTINUE,
        "generator": ANSWER,
    }
    engines = {module: engine(module, said[module], tokenizer) for module in MODULES}
    flow = Flow(engines, ScriptedTools(PAGE), Limits(max_turns=3, memory_tokens=4000))
    log = TrajectoryLog(tmp_path)
    watchdog = Watchdog(monkeypatch)

    async def one(number: int) -> Outcome:
        trajectory = await flow.run(
            f"Who described the telescope, and when? ({number})", str(number)
        )
        scored = ScoredTrajectory(
            step=0,
            split="train",
            group="g",
            session=number,
            data_source="qa",
            trajectory=trajectory,
        )
        await asyncio.to_thread(log.write, scored)
        return trajectory.outcome

    outcomes = await asyncio.gather(*map(one, range(TRAJECTORIES)))
    monkeypatch.undo()
    assert set(outcomes) == {Outcome.OUT_OF_TURNS}
    assert len(read_log(tmp_path)) == TRAJECTORIES, "lines that threads write do not mix"
    assert len(tokenizer.here) > TRAJECTORIES * 11 and not any(tokenizer.here), (
        "each prompt is encoded, and none in the loop's thread"
    )
    figures = {
        "steps": len(watchdog.steps),
        "longest_step_ms": 1e3 * max(watchdog.steps),
        "loop_ms_a_trajectory": 1e3 * sum(watchdog.steps) / TRAJECTORIES,
        "tokenizer_ms_a_trajectory": 1e3 * tokenizer.seconds / TRAJECTORIES,
    }
    for name, value in figures.items():
        record_property(name, value)
    logger.info("%s", figures)
