"""``--workers N``: N processes of one server behind one port, started, restarted and ended
together.

Each worker is the same command line in a process of its own, with a socket that this parent made
and keeps: what arrives while a worker restarts waits in its socket's queue. The parent serves
nothing itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from argparse import Namespace
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from tool_servers.common import lifetime, logs, options, sockets

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
FOLDER_PREFIX = "agentflow-metrics-"
LOCK = "lock"
RESTARTS = 5
WINDOW_S = 60.0
"""More than ``RESTARTS`` restarts in ``WINDOW_S`` seconds end the server."""
STOP_S = 5.0
"""Seconds the workers get to end before they are killed."""

log = logging.getLogger(__name__)


def main(server: str) -> None:
    """Command line entry of every server: the server itself, or with ``--workers N`` the parent of
    N of them.
    """
    arguments = sys.argv[1:]
    if sockets.INHERITED not in os.environ and not {"-h", "--help"} & set(arguments):
        given, _ = options.parser(server, "").parse_known_args(arguments)
        if given.workers > 1:
            raise SystemExit(_parent(server, given, arguments))
    importlib.import_module(f"tool_servers.{server}.server").main(arguments)


def _parent(server: str, given: Namespace, arguments: Sequence[str]) -> int:
    logs.configure()
    try:
        if given.exit_with_parent is not None:
            lifetime.end_with_parent(given.exit_with_parent)
        listeners = sockets.shared(given.host, given.port, given.workers)
    except (lifetime.ParentGone, OSError) as error:
        sys.stderr.write(f"{server}: {error}\n")
        return 2
    with metrics_folder() as folder:
        command = [
            sys.executable,
            "-m",
            f"tool_servers.{server}",
            *arguments,
            "--exit-with-parent",
            str(os.getpid()),
        ]
        return asyncio.run(WorkerPool(command, listeners, folder).run())


@contextlib.contextmanager
def metrics_folder() -> Iterator[str]:
    """A folder for the workers' counts, removed at the end.

    Those that servers left which were killed are removed too.
    """
    for lock in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*/{LOCK}"):
        # OSError: it is another user's, or its server lives and holds the lock
        with contextlib.suppress(OSError), lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX) as folder:
        made = Path(folder, "unnamed")
        with made.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            made.rename(made.with_name(LOCK))  # no other server finds it before it is held
            yield folder


class WorkerPool:
    """The workers of one server."""

    def __init__(
        self, command: Sequence[str], listeners: Sequence[socket.socket], folder: str
    ) -> None:
        self._command = command
        self._listeners = listeners
        self._folder = folder
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._restarts: deque[float] = deque(maxlen=RESTARTS + 1)

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT, or until a worker cannot be kept alive. Returns the exit
        code.
        """
        ending = asyncio.ensure_future(self._wait_for_signal())
        serving = asyncio.ensure_future(self._serve())
        await asyncio.wait({ending, serving}, return_when=asyncio.FIRST_COMPLETED)
        code = serving.result() if serving.done() else 0
        for task in (ending, serving):
            task.cancel()
        await asyncio.wait({ending, serving})
        await self._stop()
        return code

    async def _wait_for_signal(self) -> None:
        told = asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, told.set)
        await told.wait()

    async def _serve(self) -> int:
        """Start the first worker alone, so that a wrong option is one line, then the others; then
        replace those that end. Returns the exit code of one that ends too often.
        """
        line = await self._start(0)
        if line is None:
            return await self._running.pop(0).wait() or 1
        count = len(self._listeners)
        await asyncio.gather(*map(self._start, range(1, count)))
        sys.stdout.write(json.dumps({**line, "pid": os.getpid(), "workers": count}) + "\n")
        sys.stdout.flush()
        keepers = [asyncio.ensure_future(self._keep_alive(number)) for number in self._running]
        try:
            done, _ = await asyncio.wait(keepers, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for keeper in keepers:
                keeper.cancel()

    async def _keep_alive(self, number: int) -> int:
        while True:
            code = await self._running[number].wait()
            self._restarts.append(time.monotonic())
            log.error("worker ended", extra={"worker": number, "code": code})
            if len(self._restarts) > RESTARTS and self._restarts[-1] - self._restarts[0] < WINDOW_S:
                log.error(
                    "workers end too often, giving up",
                    extra={"restarts": RESTARTS, "seconds": WINDOW_S},
                )
                return code or 1
            worker = self._running[number]
            mark_process_dead(worker.pid, self._folder)  # type: ignore[no-untyped-call]
            await self._start(number)

    async def _start(self, number: int) -> dict[str, object] | None:
        """Start a worker. Returns its listening line, None where it ended without one."""
        descriptor = self._listeners[number].fileno()
        environment = {
            **os.environ,
            sockets.INHERITED: str(descriptor),
            METRICS_FOLDER: self._folder,
        }
        self._running[number] = worker = await asyncio.create_subprocess_exec(
            *self._command, stdout=asyncio.subprocess.PIPE, pass_fds=(descriptor,), env=environment
        )
        assert worker.stdout is not None
        line = await worker.stdout.readline()
        if not line:
            return None
        listening: dict[str, object] = json.loads(line)
        return listening

    async def _stop(self) -> None:
        waiting = [asyncio.ensure_future(worker.wait()) for worker in self._running.values()]
        for name in (signal.SIGTERM, signal.SIGKILL):
            for worker in self._running.values():
                if worker.returncode is None:
                    worker.send_signal(name)
            if waiting:
                await asyncio.wait(waiting, timeout=STOP_S)
