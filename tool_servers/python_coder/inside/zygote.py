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
import json
import os
import re
import resource
import selectors
import signal
import socket
import sys

from tool_servers.python_coder.inside import kernel
from tool_servers.python_coder.inside.launcher import AT_A_STRETCH_S, become_job, confine

BEHIND = 1
"""Added to the server's nice value for a job's."""
HUGE_PAGE, MADV_COLLAPSE = 2 << 20, 25  # linux/mman.h
PAGE = resource.getpagesize()


def serve_forks(link, requests, setup):
    """Fork what is asked for, and tell how it ended. Never returns."""
    rank = min(os.getpriority(os.PRIO_PROCESS, 0) + BEHIND, 19)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    # jobs are in it: a kernel that schedules by session (sched(7), autogroup) ranks them among
    # themselves
    os.setsid()
    try:
        prepare(setup["packages"], setup["preload"])
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        os._exit(1)
    raise_priority()
    rules = kernel.capabilities(), kernel.seccomp_filter(bytes.fromhex(setup["filter"]))
    kernel.sched_attr(rank, AT_A_STRETCH_S)
    understood = functools.lru_cache(json.loads)
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
            order, fds, _, _ = socket.recv_fds(requests, 4096, 5)
            if not order:
                os._exit(0)
            control, stdin, output, first, start = fds
            wanted, mapped = understood(order), int(os.pread(statm, 64, 0).split()[0]) * PAGE
            reseed()
            child, ended = 0, -1
            try:
                kernel.call("setns", first, kernel.CLONE_NEWPID)
                child = kernel.fork()
                if child == 0:
                    enter(wanted, control, stdin, output, first, start, rules, rank, mapped)
                ended = os.pidfd_open(child)
                events.register(ended, selectors.EVENT_READ, (child, control, first))
            except OSError as error:
                end(control, first, f"no process could be forked and watched: {error}")
                if child:
                    os.waitpid(
                        child, 0
                    )  # it is ended with its namespace, which in turn waits for this
                if ended >= 0:
                    os.close(ended)
            for fd in (stdin, output, start):
                os.close(fd)


def raise_priority():
    """Run before whatever else wants to, jobs above all, where that is allowed: every program waits
    for this process.
    """
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        return  # who started the server has decided otherwise
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except PermissionError:
        pass  # an ordinary user, or one in a control group without real time


def reap(ended, child, control, first):
    """Report how a job's process has ended, and end whatever else is in its sandbox."""
    os.close(ended)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    end(control, first, f"exit {code if code >= 0 else 128 - code}\n")


def end(control, first, verdict):
    kernel.tell(control, verdict)
    try:
        signal.pidfd_send_signal(first, signal.SIGKILL)
    except ProcessLookupError:
        pass
    os.close(control)
    os.close(first)


def prepare(packages, preload):
    """Import what jobs should find imported, and leave nothing that forks would copy for no use."""
    sys.path[-1:] = packages  # in place of this program's own folder
    for name in preload:
        importlib.import_module(name)
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise RuntimeError(
            f"importing {', '.join(preload)} started {threads - 1} threads, which a fork would lose"
        )
    sys.argv = ["main.py"]
    sys.modules["__main__"] = type(sys)("__main__")
    for name in ("exit", "quit"):
        setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D"))
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    gc.collect()
    gc.freeze()  # a collection in a fork must not write to, and so copy, what was there before
    pack()


def reseed():
    """Give the next fork random numbers of its own. It would otherwise have its parent's, and copy
    more pages to draw a seed itself.
    """
    if "random" in sys.modules:
        sys.modules["random"].seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed(list(os.urandom(32)))
    if "sympy.core.random" in sys.modules:
        sys.modules["sympy.core.random"].seed()


def pack():
    """Fewer and larger pages, as far as the kernel can (Linux 6.1): less for every fork to copy."""
    with open("/proc/self/maps") as file:
        found = re.findall(r"^(\w+)-(\w+) rw-p \w+ \S+ 0 ", file.read(), re.MULTILINE)
    for low, high in found:
        low, high = (
            -(-int(low, 16) // HUGE_PAGE) * HUGE_PAGE,
            int(high, 16) // HUGE_PAGE * HUGE_PAGE,
        )
        if low < high:
            kernel.LIBC.madvise(ctypes.c_void_p(low), ctypes.c_size_t(high - low), MADV_COLLAPSE)


def enter(order, control, stdin, output, first, start, rules, rank, mapped):
    """In the fork, which is in the sandbox's process namespace: enter its others, and become the
    job's process.
    """
    try:
        no_capabilities, steps = rules
        os.setpgid(0, 0)  # signals to its process group must reach none but its own
        kernel.call("setns", first, kernel.SURROUNDINGS)
        if not order["uid"]:
            kernel.call("setns", first, kernel.CLONE_NEWUSER)
        os.chdir("/tmp")
        for target, source in ((0, stdin), (1, output), (2, output)):
            os.dup2(source, target)
        confine(order, rank, mapped)
        kernel.keep_capabilities(no_capabilities)
        kernel.filter_calls(steps)
        server = socket.socket(fileno=control)
        socket.send_fds(server, [b"ready"], [first])
        os.set_inheritable(server.detach(), False)
        kernel.close_but(3, control, start)
        become_job(control, start, order["session"])
    except BaseException as error:
        kernel.tell(control, f"{type(error).__name__}: {error}")
    os._exit(1)
