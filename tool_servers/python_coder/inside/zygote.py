"""Imports packages once, then forks a job's process, which finds them imported, into each sandbox.

Runs in a fork of the starter. No program and no output passes through here.
"""

from __future__ import annotations

import _sitebuiltins
import builtins
import ctypes
import functools
import gc
import importlib
import io
import json
import os
import re
import resource
import selectors
import signal
import socket
import sys
from typing import Any, NoReturn

from tool_servers.python_coder.inside import kernel
from tool_servers.python_coder.inside.launcher import (
    SLICE_S,
    become_job,
    confine,
    end_first_without_memory,
)

NICE_BEHIND_SERVER = 1
"""Added to the server's nice value for a job's."""
HUGE_PAGE = 2 << 20
MADV_COLLAPSE = 25  # linux/mman.h
PAGE = resource.getpagesize()


def serve_forks(link: socket.socket, requests: socket.socket, setup: dict[str, Any]) -> NoReturn:
    """Fork the job processes that are asked for, and report how each ended."""
    nice = min(os.getpriority(os.PRIO_PROCESS, 0) + NICE_BEHIND_SERVER, 19)
    # The starter ignores and blocks it. Ignored here, a job's exit status would be gone before it
    # is waited for; blocked, programs would inherit the block.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    # All jobs are in one session: a kernel that schedules by session (sched(7), autogroup) then
    # weighs them against each other by their nice values.
    os.setsid()
    try:
        preload(setup["packages"], setup["preload"])
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        os._exit(1)
    raise_priority()
    rules = kernel.capability_set(), kernel.seccomp_filter(bytes.fromhex(setup["filter"]))
    kernel.sched_attr(nice, SLICE_S)  # fills the cache that every fork inherits
    parse_request = functools.lru_cache(json.loads)
    statm = os.open("/proc/self/statm", os.O_RDONLY)
    link.send(b"up")
    link.close()
    events = selectors.DefaultSelector()
    events.register(requests, selectors.EVENT_READ)
    while True:
        for key, _ in events.select():
            if key.data:
                events.unregister(key.fd)
                reap(key.fd, *key.data)
                continue
            request, fds, _, _ = socket.recv_fds(requests, 4096, 5)
            if not request:
                os._exit(0)
            control, stdin, output, init, start = fds
            parsed, mapped = parse_request(request), int(os.pread(statm, 64, 0).split()[0]) * PAGE
            reseed()
            child, ended = 0, -1
            try:
                # By pidfd, not by the path of a namespace: the kernel takes it from the process
                # itself, which may be ending. Only children are put into a process namespace, so
                # this process stays outside.
                kernel.call("setns", init, kernel.CLONE_NEWPID)
                child = kernel.fork()
                if child == 0:
                    enter(parsed, control, stdin, output, init, start, rules, nice, mapped)
                # Readable once the child has ended, so that one loop waits for all jobs and for
                # requests.
                ended = os.pidfd_open(child)
                events.register(ended, selectors.EVENT_READ, (child, control, init))
            except OSError as error:
                end(control, init, f"no process could be forked and watched: {error}")
                if child:
                    # it ends with its namespace, and the end of the namespace waits for this
                    os.waitpid(child, 0)
                if ended >= 0:
                    os.close(ended)
            for fd in (stdin, output, start):
                os.close(fd)


def raise_priority() -> None:
    """Run before all jobs, where that is allowed: every program waits for this process."""
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        return  # who started the server has decided otherwise
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except PermissionError:
        pass  # an ordinary user, or a control group without real time


def reap(ended: int, child: int, control: int, init: int) -> None:
    """Report how a job's process has ended, and end whatever else is in its sandbox."""
    os.close(ended)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        code = 128 - code  # a signal, as shells write it
    end(control, init, f"exit {code}\n")


def end(control: int, init: int, message: str) -> None:
    """Tell the server, and kill the sandbox's init process, which ends its namespace."""
    kernel.report(control, message)
    try:
        signal.pidfd_send_signal(init, signal.SIGKILL)
    except ProcessLookupError:
        pass
    os.close(control)
    os.close(init)


def preload(packages: list[str], names: list[str]) -> None:
    """Import what jobs should find imported, and leave nothing that forks would copy for no use.

    ``packages``: the folders of packages. Raises RuntimeError, and whatever an import does.
    """
    sys.path[-1:] = packages  # in place of this program's own folder
    for name in names:
        importlib.import_module(name)
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise RuntimeError(
            f"importing {', '.join(names)} started {threads - 1} threads, which a fork would lose"
        )
    sys.argv = ["main.py"]
    sys.modules["__main__"] = type(sys)("__main__")
    for name in ("exit", "quit"):
        setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    gc.collect()
    gc.freeze()  # a collection in a fork must not write to, and so copy, what was there before
    collapse_pages()


def reseed() -> None:
    """Give the next fork random numbers of its own.

    It would otherwise have its parent's; drawing a seed in the fork would copy more pages.
    """
    if "random" in sys.modules:
        sys.modules["random"].seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed(list(os.urandom(32)))
    if "sympy.core.random" in sys.modules:
        sys.modules["sympy.core.random"].seed()


def collapse_pages() -> None:
    """Merge pages into fewer and larger ones, where the kernel can (Linux 6.1): a fork then copies
    a shorter page table.
    """
    with open("/proc/self/maps") as file:
        # private and writable mappings that no file is behind
        found = re.findall(r"^(\w+)-(\w+) rw-p \w+ \S+ 0 ", file.read(), re.MULTILINE)
    for low, high in found:
        first = -(-int(low, 16) // HUGE_PAGE) * HUGE_PAGE  # rounded up
        last = int(high, 16) // HUGE_PAGE * HUGE_PAGE
        if first < last:
            place, length = ctypes.c_void_p(first), ctypes.c_size_t(last - first)
            kernel.LIBC.madvise(place, length, MADV_COLLAPSE)


def enter(
    request: dict[str, Any],
    control: int,
    stdin: int,
    output: int,
    init: int,
    start: int,
    rules: tuple[ctypes.Array[ctypes.c_uint32], kernel.Filter],
    nice: int,
    mapped: int,
) -> NoReturn:
    """In the fork, which is in the sandbox's process namespace already: enter its other namespaces,
    and become the job's process.
    """
    try:
        no_capabilities, steps = rules
        os.setpgid(0, 0)  # signals to its process group must reach none but its own
        end_first_without_memory()
        # In the same order as isolate() made them: the user namespace last, since inside it the
        # others could not be entered.
        kernel.call("setns", init, kernel.SURROUNDINGS)
        if not request["uid"]:
            kernel.call("setns", init, kernel.CLONE_NEWUSER)
        os.chdir("/tmp")
        for target, source in ((0, stdin), (1, output), (2, output)):
            os.dup2(source, target)
        # Limits and user first, which need capabilities; then none are left; then the filter, which
        # refuses what came before it.
        confine(request, nice, mapped)
        kernel.keep_capabilities(no_capabilities)
        kernel.filter_calls(steps)
        server = socket.socket(fileno=control)
        # The server kills the sandbox by this descriptor. It is opened inside, since a process id
        # there means nothing outside.
        socket.send_fds(server, [b"ready"], [init])
        os.set_inheritable(server.detach(), False)
        kernel.close_but(3, control, start)
        become_job(control, start, request["session"])
    except BaseException as error:
        kernel.report(control, f"{type(error).__name__}: {error}")
    os._exit(1)
