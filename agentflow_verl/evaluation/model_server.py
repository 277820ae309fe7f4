"""vLLM's or SGLang's own OpenAI server as a child process: started, waited for, and ended
with everything that it has started.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from agentflow_verl.core.child_process import ChildProcess, answers, last_lines
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.core.shared_memory import sweep_shared_memory

START_TIMEOUT_S = 1800.0  # large weights on a slow disk
STOP_TIMEOUT_S = 20.0
_POLL_S = 0.25
LAST_LINES = 40
HEALTH_TIMEOUT_S = 5.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Program:
    """How to start an engine's server."""

    title: str
    python: tuple[str, ...]
    """Arguments of the interpreter."""
    model_option: str
    name: str
    """The package, and what log files begin with."""


VLLM = Program("vLLM", ("-m", "vllm.entrypoints.openai.api_server"), "--model", "vllm")
SGLANG = Program("SGLang", ("-m", "sglang.launch_server"), "--model-path", "sglang")
# SGLang needs a few changes where there is no GPU; "-c", so that its children import no __main__.
SGLANG_ON_CPU = replace(
    SGLANG, python=("-c", "from agentflow_verl.trainer.cpu.sglang import serve; serve()")
)


class ModelServer:
    """``with ModelServer(VLLM, "base", PATH, args, folder) as server: server.wait(); …``

    Entering starts it, ``wait`` blocks until it answers. Must be entered from a thread that lives
    as long as the server should: PR_SET_PDEATHSIG ends the child with the thread that forked it.
    """

    def __init__(self, program: Program, name: str, model: str, args: Sequence[str], log_dir: Path):
        self.program = program
        self.name = name
        self.port = _free_port()
        options = {
            program.model_option: model,
            "--served-model-name": name,
            "--host": "127.0.0.1",
            "--port": str(self.port),
        }
        # The user's arguments last: of an option given twice both engines take the last.
        self._argv = [sys.executable, *program.python]
        self._argv += [*chain.from_iterable(options.items()), *args]
        self._log_path = log_dir / f"{program.name}_{name}.log"
        self._process: ChildProcess

    @property
    def _title(self) -> str:
        return f"{self.program.title} for {self.name}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> ModelServer:
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        # Engines leave sockets in TMPDIR; in a folder of its own they go when the server does.
        prefix = f"agentflow-{self.program.name}-"
        self._temporary = tempfile.TemporaryDirectory(prefix=prefix)
        with self._log_path.open("ab") as log:
            self._process = ChildProcess(
                self._argv,
                {**os.environ, "TMPDIR": self._temporary.name},
                stdout=log,
                stderr=log,
                end_with_parent=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._process.terminate()
            if not self._process.wait(STOP_TIMEOUT_S):
                logger.warning("%s did not end on SIGTERM; killed", self._title)
        finally:
            # The whole process group: a killed API server leaves its engine processes behind.
            self._process.end()
            self._temporary.cleanup()
            # One of two vLLM servers was killed before its queues of 400 MB were removed.
            sweep_shared_memory()

    def wait(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Block until the server answers. Raises ConfigError with the last lines of its log if it
        exits or does not answer in time.
        """
        give_up = time.monotonic() + timeout_s
        while not answers(self.port, "/health", HEALTH_TIMEOUT_S):
            if self._process.exited():
                self._process.end()
                raise ConfigError(
                    f"{self._title} ended with status"
                    f" {self._process.returncode}:\n{self._last_lines()}"
                )
            if time.monotonic() > give_up:
                raise ConfigError(
                    f"{self._title} does not answer after {timeout_s:.0f} s:\n{self._last_lines()}"
                )
            time.sleep(_POLL_S)

    def _last_lines(self) -> str:
        lines = "\n".join(last_lines(self._log_path, LAST_LINES))
        return f"{lines}\n(whole log: {self._log_path})"


def _free_port() -> int:
    # Another program may take the port before the server binds it; the server then fails to start.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
