"""Ask a worker process whether two LaTeX expressions are equal: bounded in time and memory, from
any thread.

The workers (``sympy_worker.py``) start on first use, are kept, and are replaced when an expression
kills one. A thread takes an idle worker for one question; up to ``WORKERS`` threads ask at once and
the rest wait their turn.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from agentflow_verl.core.child_process import ChildProcess
from agentflow_verl.core.errors import ConfigError, InfraError

WORKERS = 4
WALL_SECONDS = 60.0
"""For one question, or for a start. Only a stalled machine reaches it: the worker's own limits are
in CPU seconds.
"""

FATAL: dict[int, str] = {
    signal.SIGXCPU: "took too much processor time",
    signal.SIGSEGV: "crashed the algebra",
    signal.SIGABRT: "crashed the algebra",
}

logger = logging.getLogger(__name__)


class WorkerDied(Exception):
    """The worker's process ended during a question; ``status`` is its exit status, negative for a
    signal.
    """

    def __init__(self, status: int):
        super().__init__(f"exit status {status}")
        self.status = status


class Worker:
    """One worker process and its two pipes."""

    def __init__(self) -> None:
        root = str(Path(__file__).resolve().parents[3])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        # A fixed hash seed: SymPy's order of terms, and so its running time, depends on it.
        self.process = ChildProcess(
            [sys.executable, "-m", "agentflow_verl.rewards.math.sympy_worker"],
            {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        replies, _ = self.process.pipes
        if replies is None:
            raise InfraError("the maths worker has no pipes")
        self.replies: IO[bytes] = replies
        self.waiting = b""
        self.read_reply()  # says that it has started

    def ask(self, request: dict[str, Any]) -> tuple[bool, str]:
        """Raises ``WorkerDied`` or ``InfraError``; the worker is of no more use after either."""
        try:
            self.process.input.write(json.dumps(request).encode() + b"\n")
            self.process.input.flush()
        except OSError:
            raise WorkerDied(self.close()) from None
        reply = self.read_reply()
        return reply["equal"], reply["why"]

    def read_reply(self) -> dict[str, Any]:
        until = time.monotonic() + WALL_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self.replies, selectors.EVENT_READ)
            while b"\n" not in self.waiting:
                if not selector.select(max(0.0, until - time.monotonic())):
                    self.close()
                    raise InfraError(
                        f"the maths worker was silent for {WALL_SECONDS:g} s: the machine is"
                        " stalled"
                    )
                chunk = os.read(self.replies.fileno(), 65536)
                if not chunk:
                    raise WorkerDied(self.close())
                self.waiting += chunk
        line, _, self.waiting = self.waiting.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def close(self) -> int:
        """End the process and return its exit status."""
        self.process.wait(0.5)  # a closed pipe comes a moment before the exit status
        self.process.end()
        self.replies.close()
        assert self.process.returncode is not None
        return self.process.returncode


class Algebra:
    """The idle workers of this process, and the right to use one."""

    def __init__(self) -> None:
        self.idle: list[Worker] = []
        self.turns = threading.BoundedSemaphore(WORKERS)

    def equal(self, request: dict[str, Any]) -> tuple[bool, str]:
        """Whether the two LaTeX expressions of ``request`` are equal, and why or why not.

        An expression that exhausts its limits, or kills the worker, is not equal. A worker lost for
        another reason is replaced once.

        Raises:
            InfraError: the workers cannot start or keep dying; nothing the model did.
        """
        with self.turns:
            try:
                return self.attempt(request)
            except WorkerDied as death:
                logger.warning("a maths worker ended with %s: asking another", death)
            try:
                return self.attempt(request)
            except WorkerDied as death:
                raise InfraError(f"the maths worker ended twice, last with {death}") from death

    def attempt(self, request: dict[str, Any]) -> tuple[bool, str]:
        try:
            worker = self.idle.pop()
        except IndexError:
            worker = Worker()
        try:
            verdict = worker.ask(request)
        except WorkerDied as death:
            cause = FATAL.get(-death.status)
            if not cause:  # killed from outside, which says nothing about the expression
                raise
            return False, f"comparing {cause}"
        self.idle.append(worker)
        return verdict

    def close(self) -> None:
        while self.idle:
            worker = self.idle.pop()
            worker.process.end()
            worker.close()


@lru_cache(maxsize=1)
def algebra() -> Algebra:
    """This process's workers.

    Raises:
        ConfigError: math-verify is not installed.
    """
    if importlib.util.find_spec("math_verify") is None:
        raise ConfigError(
            "the maths scorer needs math-verify: pip install 'math-verify[antlr4_9_3]'"
        )
    made = Algebra()
    atexit.register(made.close)
    return made


# A forked child must not share its parent's pipes.
os.register_at_fork(after_in_child=algebra.cache_clear)


@lru_cache(maxsize=8192)
def equal_expressions(
    gold: str,
    answer: str,
    positive: frozenset[str] = frozenset(),
    whole: frozenset[str] = frozenset(),
) -> tuple[bool, str]:
    """``Algebra.equal`` of this process, cached: the rollouts of a group often agree.

    ``positive`` and ``whole`` name the variables that the question says are positive or integers.
    """
    request = {"gold": gold, "answer": answer, "positive": [*positive], "whole": [*whole]}
    return algebra().equal(request)
