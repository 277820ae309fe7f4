"""vLLM's own OpenAI server as a child process: started, waited for, and ended with everything that
it has started.
"""

from __future__ import annotations

import ctypes
import http.client
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from agentflow_verl.core.errors import ConfigError

START_TIMEOUT_S = 1800.0  # large weights on a slow disk
STOP_TIMEOUT_S = 20.0
_POLL_S = 0.25
_LAST_BYTES = 4096
_PR_SET_PDEATHSIG = 1

logger = logging.getLogger(__name__)


class VllmServer:
    """``with VllmServer("base", PATH, args, folder) as server: server.wait(); … server.url …``

    Entering starts it, ``wait`` blocks until it answers. Must be entered from a thread that lives
    as long as the server should: the kernel ends the child with the thread that forked it.
    """

    def __init__(self, name: str, model: str, args: Sequence[str], log_dir: Path):
        self.name = name
        self.port = _free_port()
        self._argv = [
            *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
            *(
                "--model",
                model,
                "--served-model-name",
                name,
                "--host",
                "127.0.0.1",
                "--port",
                str(self.port),
                *args,
            ),
        ]
        self._log_path = log_dir / f"vllm_{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> VllmServer:
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        parent = os.getpid()
        self._temporary = tempfile.TemporaryDirectory(
            prefix="agentflow-vllm-"
        )  # vLLM leaves its sockets there
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "TMPDIR": self._temporary.name},
                start_new_session=True,
                preexec_fn=lambda: _end_with(parent),
            )
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        try:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            logger.warning("vLLM server %s did not end on SIGTERM; killed", self.name)
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)  # its engine processes are of its group
            except ProcessLookupError:
                pass
            process.wait()
            self._temporary.cleanup()

    def wait(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return once it answers. Raises ConfigError with its last lines if it ends, or not in
        time.
        """
        give_up = time.monotonic() + timeout_s
        while not self._healthy():
            if self._process.poll() is not None:
                raise ConfigError(
                    f"vLLM for {self.name} ended with status"
                    f" {self._process.returncode}:\n{self._last_lines()}"
                )
            if time.monotonic() > give_up:
                raise ConfigError(
                    f"vLLM for {self.name} does not answer after {timeout_s:.0f}"
                    f" s:\n{self._last_lines()}"
                )
            time.sleep(_POLL_S)

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5.0)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _last_lines(self) -> str:
        content = self._log_path.read_bytes()[-_LAST_BYTES:]
        return content.decode("utf-8", "replace") + f"\n(whole log: {self._log_path})"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _end_with(parent: int) -> None:
    """In the child: ask the kernel for SIGTERM when the parent dies, however it dies."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before
        os._exit(1)
