"""Imports packages once, then forks a job's process, which finds them imported, into each sandbox.

Runs in a fork of the starter. No program and no output passes through here.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import re
import selectors
import signal
import socket
import sys

from tool_servers.python_coder.inside import kernel
from tool_servers.python_coder.inside.launcher import become_job, confine

BEHIND = 1
"""Added to the server's nice value for a job's."""
HUGE_PAGE, MADV_COLLAPSE = 2 << 20, 25  # linux/mman.h


def bear(link, births, setup):
    """Fork what is asked for, and tell how it ended. Never returns."""
    rank = os.getpriority(os.PRIO_PROCESS, 0) + BEHIND
    os.setsid()  # jobs are in it: a kernel that schedules by session (sched(7), autogroup) ranks them among themselves
    try:
        prepare(setup["packages"], setup["preload"])
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        os._exit(1)
    come_first()
    steps = bytes.fromhex(setup["filter"])
    link.send(b"up")
    link.close()
    told, child_ended = socket.socketpair()
    child_ended.setblocking(False)
    signal.set_wakeup_fd(child_ended.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    events = selectors.DefaultSelector()
    for ready in (told, births):
        events.register(ready, selectors.EVENT_READ)
    jobs = {}
    while True:
        for key, _ in events.select():
            if key.fileobj is told:
                told.recv(4096)
                reap_jobs(jobs)
                continue
            order, fds, _, _ = socket.recv_fds(births, 4096, 5)
            if not order:
                os._exit(0)
            control, stdin, output, first, start = fds
            try:
                kernel.call("setns", first, kernel.CLONE_NEWPID)
                child = os.fork()
                if child == 0:
                    enter(json.loads(order), control, stdin, output, first, start, steps, rank)
                jobs[child] = control, first
            except OSError as error:
                end(control, first, f"no process could be forked: {error}")
            for fd in (stdin, output, start):
                os.close(fd)


def come_first():
    """Run before whatever else wants to, jobs above all, where that is allowed: every program waits for this process."""
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        return  # who started the server has decided otherwise
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except PermissionError:
        pass  # an ordinary user, or one in a control group without real time


def reap_jobs(jobs):
    """Report those jobs whose process has ended, and end whatever else is in their sandboxes."""
    while jobs:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            return
        control, first = jobs.pop(child)
        code = os.waitstatus_to_exitcode(status)
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
        raise RuntimeError(f"importing {', '.join(preload)} started {threads - 1} threads, which a fork would lose")
    sys.argv = ["main.py"]
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    gc.collect()
    gc.freeze()  # a collection in a fork must not write to, and so copy, what was there before
    pack()


def pack():
    """Fewer and larger pages, as far as the kernel can (Linux 6.1): less for every fork to copy."""
    with open("/proc/self/maps") as file:
        found = re.findall(r"^(\w+)-(\w+) rw-p \w+ \S+ 0 ", file.read(), re.MULTILINE)
    for low, high in found:
        low, high = -(-int(low, 16) // HUGE_PAGE) * HUGE_PAGE, int(high, 16) // HUGE_PAGE * HUGE_PAGE
        if low < high:
            kernel.LIBC.madvise(ctypes.c_void_p(low), ctypes.c_size_t(high - low), MADV_COLLAPSE)


def enter(order, control, stdin, output, first, start, steps, rank):
    """In the fork, which is in the sandbox's process namespace: enter its others, and become the job's process."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setpgid(0, 0)  # signals to its process group must reach none but its own
        kernel.call("setns", first, kernel.SURROUNDINGS)
        if not order["uid"]:
            kernel.call("setns", first, kernel.CLONE_NEWUSER)
        os.chdir("/tmp")
        for target, source in ((0, stdin), (1, output), (2, output)):
            os.dup2(source, target)
        confine(order, rank)
        kernel.drop_capabilities()
        kernel.filter_calls(steps)
        server = socket.socket(fileno=control)
        socket.send_fds(server, [b"ready"], [first])
        os.set_inheritable(server.detach(), False)
        kernel.close_but(3, control, start)
        become_job(control, start, order["session"])
    except BaseException as error:
        kernel.tell(control, f"{type(error).__name__}: {error}")
    os._exit(1)
