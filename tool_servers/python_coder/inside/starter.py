"""First process of all, in the namespaces that bubblewrap made: forks the first process of each
sandbox.

That one has a process namespace of its own, takes every other namespace and a /tmp, /dev/shm and
/proc of its own, gives up its rights, has the zygote fork the job's process into all of them, and
looks after it. No program and no output passes through here.
"""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import socket
import sys

from tool_servers.python_coder.inside.kernel import (
    CAP_KILL,
    CAP_SYS_NICE,
    CAP_SYS_PTRACE,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    LIBC,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    PR_SET_DUMPABLE,
    SIG_DFL,
    SURROUNDINGS,
    call,
    capabilities,
    close_but,
    filter_calls,
    fork,
    keep_capabilities,
    seccomp_filter,
    tell,
)
from tool_servers.python_coder.inside.watch import watch

JOB_UID = 1000
"""In a job's own user namespace."""


def main():
    link = socket.socket(fileno=int(sys.argv[1]))
    setup = json.loads(link.recv(1 << 16))
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # sandboxes that end need nobody to wait for them
    signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGCHLD}
    )  # those of a sandbox are waited for, by its first process
    orders, requests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        orders.close()
        from tool_servers.python_coder.inside import (
            zygote,
        )  # not before: a sandbox's first process has no use for it

        zygote.serve_forks(link, requests, setup)
    requests.close()
    own = os.open("/proc/self/ns/pid", os.O_RDONLY)
    settings = os.open("/proc/sys/user", os.O_PATH)
    turns = os.memfd_create("turns")
    # to see the memory of the job's processes, slow and stop them
    rules = (
        capabilities(1 << CAP_SYS_PTRACE | 1 << CAP_SYS_NICE | 1 << CAP_KILL),
        seccomp_filter(bytes.fromhex(setup["filter"])),
    )
    understood = functools.lru_cache(json.loads)
    events = select.poll()  # a descriptor can be 1024 or more
    for awaited in (link, orders):
        events.register(awaited, select.POLLIN)
    while True:
        if orders.fileno() in dict(events.poll()):
            os._exit(1)  # the zygote, which never writes there, is gone
        order, fds, _, _ = socket.recv_fds(link, 4096, 3)
        if not order:
            os._exit(0)
        try:
            call("setns", own, 0)
            call("unshare", CLONE_NEWPID)
            wanted = understood(order)
            if fork() == 0:
                make(order, wanted, *fds, orders, rules, settings, turns)
        except OSError as error:
            tell(fds[0], f"no sandbox could be forked: {error}")
        finally:
            for fd in fds:
                os.close(fd)


def make(order, wanted, control, stdin, output, orders, rules, settings, turns):
    """In the fork: become the first process of a sandbox. Never returns."""
    try:
        LIBC.signal(signal.SIGCHLD, SIG_DFL)
        kept, steps = rules
        turn = os.open(
            f"/proc/self/fd/{turns}", os.O_RDONLY
        )  # a lock belongs to what was opened, not to the file
        isolate(wanted, settings)
        first = os.pidfd_open(os.getpid())
        started, start = os.pipe()
        call(
            "prctl", PR_SET_DUMPABLE, 0, 0, 0, 0
        )  # a job with the same user id must not reach into this process
        keep_capabilities(kept)
        filter_calls(steps)
        socket.send_fds(orders, [order], [control, stdin, output, first, start])
        close_but(0, started, control, turn)
        watch(started, control, wanted["memory"], turn)
    except BaseException as error:
        tell(control, f"{type(error).__name__}: {error}")
    os._exit(1)


def isolate(order, settings):
    """A namespace of each kind, and a file system in which only /tmp and /dev/shm can be written
    to.
    """
    os.setpgid(0, 0)  # out of reach of signals to a process group
    call("unshare", SURROUNDINGS)
    call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
    private = f"mode=1777,size={order['disk']},nr_inodes={order['files']}".encode()
    for place in (b"/tmp", b"/dev/shm"):
        call("mount", b"tmpfs", place, b"tmpfs", MS_NOSUID | MS_NODEV, private)
    call("mount", b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, b"subset=pid")
    if not order["uid"]:
        own_user_namespace(settings)


def own_user_namespace(settings):
    """For an ordinary user: one more user namespace, so that limits counted by user are this job's,
    and no further.
    """
    call("unshare", CLONE_NEWUSER)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{JOB_UID} 0 1"),
        ("gid_map", f"{JOB_UID} 0 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    most = os.open("max_user_namespaces", os.O_WRONLY, dir_fd=settings)
    os.write(most, b"0")
    os.close(most)
