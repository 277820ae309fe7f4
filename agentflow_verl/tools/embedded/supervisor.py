"""Runs the embedded tool servers: starts them, watches them, restarts one that died or hangs, stops
them.

Everything happens on one thread of the supervisor's own, for two reasons. The caller may be
anything: a command line, a Ray actor, a plain thread. And the servers must die with this process
even if it is killed: they ask the kernel for a signal when their parent dies, and the kernel sends
it when the thread that forked them ends, so the thread that forks has to live as long as the
supervisor. What the servers have started themselves, orphan_reaper.py ends.

A server keeps its port over restarts, so URLs handed out once stay valid.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from agentflow_verl.config.tool import ToolConfig
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.tools.embedded.orphan_guard import OrphanGuard
from agentflow_verl.tools.embedded.server_process import Reach, ServerProcess

RESTARTS_PER_WINDOW = 3
WINDOW_S = 60.0
STOP_TIMEOUT_S = 5.0
_POLL_S = 0.05

logger = logging.getLogger(__name__)


class Supervisor:
    """``with Supervisor(configs, log_dir) as supervisor: … supervisor.configs …``, or ``start`` and
    ``stop``.

    ``configs`` may mix embedded servers with ones that have URLs; only the former are started.
    Times in seconds: ``start_timeout_s`` until a server must answer, ``health_every_s`` between
    health checks, ``hung_after_s`` of silence after which a server is killed and restarted. At most
    three restarts per server and minute. ``reach`` lets other machines call them.
    """

    def __init__(
        self,
        configs: Sequence[ToolConfig],
        log_dir: str | Path | None = None,
        start_timeout_s: float = 180.0,
        health_every_s: float = 5.0,
        hung_after_s: float = 30.0,
        reach: Reach | None = None,
    ) -> None:
        names = [config.name for config in configs]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ConfigError(f"agentflow.tools lists server {', '.join(sorted(twice))} twice")
        folder = None
        if log_dir is not None:
            folder = Path(log_dir)
        self._given = tuple(configs)
        self._reach = reach
        self._start_timeout_s = start_timeout_s
        self._guard = OrphanGuard()
        self._watches = []
        for config in configs:
            if config.embedded:
                server = ServerProcess(config, folder, self._guard, reach)
                self._watches.append(_Watch(server, start_timeout_s, health_every_s, hung_after_s))
        self._up = threading.Event()
        self._stopping = threading.Event()
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None
        self._owner = os.getpid()

    @property
    def configs(self) -> tuple[ToolConfig, ...]:
        """The configurations as given, the embedded ones with the URL where they now answer."""
        urls = {watch.server.name: watch.server.url for watch in self._watches}
        running = []
        for config in self._given:
            if config.embedded:
                token = self._reach.token if self._reach else None
                config = config.running_at((urls[config.name],), token)
            running.append(config)
        return tuple(running)

    @property
    def pids(self) -> dict[str, int | None]:
        """The process of each embedded server at this moment."""
        return {watch.server.name: watch.server.pid for watch in self._watches}

    @property
    def restarts(self) -> dict[str, int]:
        """How often each embedded server had to be restarted so far."""
        return {watch.server.name: watch.restarts for watch in self._watches}

    def start(self) -> tuple[ToolConfig, ...]:
        """Start the servers, return ``configs`` once all answer. ``ConfigError`` with its last
        lines if one fails.
        """
        if self._thread is not None:
            raise RuntimeError("a Supervisor starts once")
        self._thread = threading.Thread(target=self._run, name="tool-supervisor", daemon=True)
        self._thread.start()
        atexit.register(self.stop)
        try:
            self._up.wait()
        except BaseException:  # KeyboardInterrupt: leave nothing behind
            self.stop()
            raise
        if self._error is not None:
            self.stop()
            raise self._error
        return self.configs

    def stop(self) -> None:
        """Stop all servers: SIGTERM, after five seconds SIGKILL to what is left. May be called
        again.
        """
        # A fork of this process owns no servers.
        if self._thread is None or os.getpid() != self._owner:
            return
        self._stopping.set()
        self._thread.join()
        atexit.unregister(self.stop)

    def __enter__(self) -> Supervisor:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            self._bring_up()
            self._up.set()
            while not self._stopping.wait(_POLL_S):
                for watch in self._watches:
                    watch.tick()
        except Exception as error:
            self._error = error
            if self._up.is_set():
                logger.exception("the tool supervisor failed; its servers are being stopped")
        finally:
            self._bring_down()
            self._up.set()

    def _bring_up(self) -> None:
        if self._watches:
            self._guard.start()
        for watch in self._watches:
            watch.spawn()
        waiting = list(self._watches)
        while waiting and not self._stopping.wait(_POLL_S):
            for watch in waiting:
                problem = watch.start_problem()
                if problem:
                    raise ConfigError(f"tool server {watch.server.name} did not start: {problem}")
            for watch in waiting:
                if watch.is_up():
                    watch.server.check_refusal()
            waiting = [watch for watch in waiting if not watch.is_up()]

    def _bring_down(self) -> None:
        servers = [watch.server for watch in self._watches]
        for server in servers:
            server.terminate()
        give_up = time.monotonic() + STOP_TIMEOUT_S
        # Asked all at once, so that the wait is that of the slowest and not the sum.
        while time.monotonic() < give_up and not all(server.exited() for server in servers):
            time.sleep(_POLL_S)
        for server in servers:
            server.end()
        self._guard.close()


class _Watch:
    """One server's life: starting, up, dead and waiting for its restart."""

    def __init__(
        self,
        server: ServerProcess,
        start_timeout_s: float,
        health_every_s: float,
        hung_after_s: float,
    ) -> None:
        self.server = server
        self.restarts = 0
        self._start_timeout_s = start_timeout_s
        self._health_every_s = health_every_s
        self._hung_after_s = hung_after_s
        self._spawned_at = 0.0
        self._up = False
        self._checked_at = 0.0
        self._answered_at = 0.0
        self._restart_at: float | None = None
        self._recent: deque[float] = deque(maxlen=RESTARTS_PER_WINDOW)

    def spawn(self) -> None:
        self._up = False
        self._restart_at = None
        self._spawned_at = time.monotonic()
        self.server.spawn()

    def is_up(self) -> bool:
        """Whether the start has succeeded; checks once more if not yet."""
        if not self._up and self.server.ready():
            self._up = True
            self._checked_at = self._answered_at = time.monotonic()
            logger.info("tool server %s answers at %s", self.server.name, self.server.url)
        return self._up

    def start_problem(self) -> str | None:
        """Why a start failed, or ``None`` while it may still succeed."""
        if self.server.exited():
            self.server.end()
            return self.server.death()
        if time.monotonic() - self._spawned_at > self._start_timeout_s:
            return f"no answer after {self._start_timeout_s:g} s; {self.server.last_lines()}"
        return None

    def tick(self) -> None:
        """Look at the server once and do what is due."""
        now = time.monotonic()
        if self._restart_at is not None:
            if now >= self._restart_at:
                self._restart(now)
        elif not self._up:
            problem = self.start_problem()
            if problem:
                self._bury(now, f"did not restart: {problem}")
            else:
                self.is_up()
        elif self.server.exited():
            self.server.end()
            self._bury(now, self.server.death())
        elif now - self._checked_at >= self._health_every_s:
            self._check_health()

    def _check_health(self) -> None:
        if self.server.healthy():
            self._answered_at = time.monotonic()
        self._checked_at = time.monotonic()
        silent_s = self._checked_at - self._answered_at
        if silent_s > self._hung_after_s:
            self._bury(
                self._checked_at,
                f"has not answered for {silent_s:.0f} s, killed; {self.server.last_lines()}",
            )

    def _bury(self, now: float, how: str) -> None:
        """End what is left, set the time of the restart: later each time, and never too often in
        one window.
        """
        self.server.end()
        self._up = False
        recent = [at for at in self._recent if now - at < WINDOW_S]
        self._restart_at = now
        if recent:
            self._restart_at += 0.2 * 4 ** len(recent)
        if len(recent) == RESTARTS_PER_WINDOW:
            self._restart_at = max(self._restart_at, recent[0] + WINDOW_S)
        logger.error(
            "tool server %s %s\nrestart in %.1f s", self.server.name, how, self._restart_at - now
        )

    def _restart(self, now: float) -> None:
        self._recent.append(now)
        self.restarts += 1
        try:
            self.spawn()
        except ConfigError as error:
            self._bury(now, str(error))
