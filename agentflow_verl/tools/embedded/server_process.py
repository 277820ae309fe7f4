"""One embedded tool server: a child process in a session of its own, reached over loopback, or from
the other nodes of a run at an address of this machine, with a token.

The contract with the child: it takes ``--port`` and ``--exit-with-parent``, prints one JSON line
``{"event": "listening", "port": N}`` on stdout once it listens, and answers 200 on ``GET
/healthz``. With ``Reach`` it also takes ``--host``, and wants the token of ``AGENTFLOW_TOOL_TOKEN``
as a bearer.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from pydantic import SecretStr

from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.child_process import ChildProcess, answers, last_lines, status
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.tools.embedded.orphan_guard import OrphanGuard

HEALTH_TIMEOUT_S = 2.0
REFUSAL_TIMEOUT_S = 30.0  # a machine that starts a run is busy
REFUSALS = (401, 403)
SERVERS_TOKEN = "AGENTFLOW_TOOL_TOKEN"
PASSED_ON = ("PATH", "HOME", "LANG", "PYTHONPATH")
_LAST_LINES = 20

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reach:
    """How other machines reach the embedded servers."""

    host: str
    """An address of this machine, to listen on."""
    token: SecretStr
    """What the servers demand of their callers."""


class ServerProcess:
    """Starts, probes and ends one server; the port of the first start is kept for all later ones.

    ``spawn`` must be called from a thread that lives as long as the server should: Linux delivers a
    child's parent-death signal when the *thread* that forked it ends (prctl(2), PR_SET_PDEATHSIG).
    Standard error goes to ``<log_dir>/<name>.log``, or line by line to ``logging`` without a
    folder.
    """

    def __init__(
        self,
        config: ToolConfig,
        log_dir: Path | None = None,
        guard: OrphanGuard | None = None,
        reach: Reach | None = None,
    ) -> None:
        self.config = config
        self._reach = reach
        self._guard = guard or OrphanGuard()
        self.port = 0
        self._log_path: Path | None = None
        if log_dir is not None:
            self._log_path = log_dir / f"{config.name}.log"
        self._log_start = 0
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._process: ChildProcess | None = None
        self._listening = threading.Event()
        self._pumps: list[threading.Thread] = []

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def url(self) -> str:
        host = self._reach.host if self._reach else "127.0.0.1"
        if ":" in host:  # IPv6
            host = f"[{host}]"
        return f"http://{host}:{self.port}/mcp"

    @property
    def pid(self) -> int | None:
        if self._process is None:
            return None
        return self._process.pid

    def spawn(self) -> None:
        """Start the server; it is not ready yet. Raises ``ConfigError`` if the program cannot be
        run.
        """
        argv = self.config.argv(self.port, self._reach.host if self._reach else None)
        self._listening = threading.Event()
        self._last_lines.clear()
        log = self._open_log()
        try:
            process = self._process = ChildProcess(
                argv,
                child_environment(self.config.env) | self._secrets(),
                stdout=subprocess.PIPE,
                stderr=log or subprocess.PIPE,
            )
        except OSError as error:
            raise ConfigError(f"tool server {self.name}: cannot run {argv[0]}: {error}") from None
        finally:
            if log:  # the child has its own descriptor
                log.close()
        self._guard.watch(process.pid)
        # Bound to the event of this start: a late line of an earlier process must not set it.
        on_stdout: Callable[[str], None] = partial(self._on_stdout, self._listening)
        self._pumps = []
        for pipe, handle in zip(process.pipes, (on_stdout, self._on_stderr), strict=True):
            if pipe is not None:  # standard error is none where it goes to the log
                self._pumps.append(self._pump(pipe, handle))

    def _secrets(self) -> dict[str, str]:
        values = self.config.env_values.items()
        secrets = {name: value.get_secret_value() for name, value in values}
        if self._reach:
            secrets[SERVERS_TOKEN] = self._reach.token.get_secret_value()
        return secrets

    def ready(self) -> bool:
        """Whether it has announced its port and answers."""
        return self._listening.is_set() and self.healthy()

    def healthy(self) -> bool:
        """Whether ``GET /healthz`` answers 200 within two seconds."""
        if self._reach:
            return answers(self.port, "/healthz", HEALTH_TIMEOUT_S, self._reach.host)
        return answers(self.port, "/healthz", HEALTH_TIMEOUT_S)

    def check_refusal(self) -> None:
        """Raises ConfigError where other machines reach it and it answers who has no token."""
        if self._reach is None:
            return
        said = status(self.port, "/mcp", REFUSAL_TIMEOUT_S, self._reach.host)
        if said not in REFUSALS:
            found = "nothing" if said is None else f"HTTP {said}"
            raise ConfigError(
                f"tool server {self.name} listens on {self._reach.host} and answers {found} to a"
                f" request without a token: let it demand the bearer token of {SERVERS_TOKEN} (401"
                " without it), or start it yourself and give its urls"
            )

    def exited(self) -> bool:
        """Whether the process has ended or was never started. ``end`` reaps it."""
        return self._process is None or self._process.exited()

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        if self._process is not None:
            self._process.terminate()

    def end(self) -> None:
        """Kill whatever is left of its process group, then reap it."""
        if self._process is None:
            return
        self._process.end()
        self._guard.forget(self._process.pid)
        for pump in self._pumps:
            pump.join(timeout=1)

    def death(self) -> str:
        """How it ended, with its last lines on standard error. Call after ``end``."""
        code = None
        if self._process is not None:
            code = self._process.returncode
        how = f"exited with status {code}"
        if code is not None and code < 0:
            how = f"was killed by signal {-code}"
        return f"{how}; {self.last_lines()}"

    def _read_last_lines(self) -> list[str]:
        if self._log_path is None:
            return list(self._last_lines)
        return last_lines(self._log_path, _LAST_LINES, self._log_start)

    def last_lines(self) -> str:
        lines = self._read_last_lines()
        if not lines:
            return "it wrote nothing on standard error"
        return "its last lines:\n  " + "\n  ".join(lines)

    def _open_log(self) -> IO[bytes] | None:
        if self._log_path is None:
            return None
        try:
            self._log_path.parent.mkdir(parents=True, exist_ok=True)
            log = self._log_path.open("ab")
        except OSError as error:
            raise ConfigError(
                f"tool server {self.name}: cannot write its log {self._log_path}: {error}"
            ) from None
        self._log_start = log.seek(0, os.SEEK_END)
        return log

    def _pump(self, stream: IO[bytes], handle: Callable[[str], None]) -> threading.Thread:
        def run() -> None:
            with stream:
                for line in stream:
                    handle(line.decode("utf-8", "replace").rstrip())

        # A pipe that nobody reads would block the server once it is full.
        thread = threading.Thread(target=run, name=f"tool-server-{self.name}-output", daemon=True)
        thread.start()
        return thread

    def _on_stdout(self, listening: threading.Event, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if (
            isinstance(event, dict)
            and event.get("event") == "listening"
            and isinstance(event.get("port"), int)
        ):
            self.port = event["port"]
            listening.set()
        else:
            logger.debug("%s: %s", self.name, line)

    def _on_stderr(self, line: str) -> None:
        self._last_lines.append(line)
        logger.info("%s: %s", self.name, line)


def child_environment(names: tuple[str, ...]) -> dict[str, str]:
    """The environment of an embedded server: a few basics and what its configuration names, where
    set.
    """
    return {name: os.environ[name] for name in (*PASSED_ON, *names) if name in os.environ}
