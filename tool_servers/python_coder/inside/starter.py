"""First process of all, in the namespaces that bubblewrap made: forks the init process of each
sandbox.

An init process has a process namespace of its own. It takes every other namespace and a /tmp,
/dev/shm and /proc of its own, gives up its rights, has the zygote fork the job's process into all
of them, and then watches the job. No program and no output passes through here.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import select
import signal
import socket
import sys
from typing import Any, NoReturn

from tool_servers.python_coder.inside import kernel
from tool_servers.python_coder.inside.watcher import watch

JOB_UID = 1000
"""In a job's own user namespace."""
TERMINALS = 16
"""Pseudo terminals of a job."""
Rules = tuple["ctypes.Array[ctypes.c_uint32]", kernel.Filter]
"""Capabilities that are kept, and system calls that are allowed."""


def main() -> NoReturn:
    """Serve requests for sandboxes from the socket whose number is the first argument."""
    link = socket.socket(fileno=int(sys.argv[1]))
    setup = json.loads(link.recv(1 << 16))
    # Python would raise KeyboardInterrupt somewhere between two system calls of a half-made
    # sandbox.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # init processes that end need nobody to wait for them; those of a sandbox are waited for by its
    # init process, which inherits the blocked signal and takes it with sigtimedwait
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    orders, requests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        orders.close()
        # imported here only: an init process has no use for it, and would copy its pages
        from tool_servers.python_coder.inside import zygote

        zygote.serve_forks(link, requests, setup)
    requests.close()
    serve_sandboxes(link, orders, setup)


def serve_sandboxes(link: socket.socket, orders: socket.socket, setup: dict[str, Any]) -> NoReturn:
    """Fork an init process for each request of the server, until either end is gone."""
    # The namespace that this process is in; /proc/self/ns/pid_for_children changes with each
    # unshare.
    own_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY)
    proc = os.open("/proc", os.O_PATH)  # a sandbox's own is read-only
    # Nameless and in memory: a file that all init processes of this server can lock, and no job can
    # open.
    slices = os.memfd_create("time_slices")
    # to see the memory of the job's processes, slow and stop them
    kept = 1 << kernel.CAP_SYS_PTRACE | 1 << kernel.CAP_SYS_NICE | 1 << kernel.CAP_KILL
    rules = (
        kernel.capability_set(kept),
        kernel.seccomp_filter(bytes.fromhex(setup["filter"])),
    )
    parse_request = functools.lru_cache(json.loads)  # most requests of a server are the same bytes
    events = select.poll()  # select(2) knows no descriptor from 1024 on
    for awaited in (link, orders):
        events.register(awaited, select.POLLIN)
    while True:
        # recv alone would not notice that the zygote is gone until the next request, which would be
        # lost.
        if orders.fileno() in dict(events.poll()):
            os._exit(1)  # the zygote, which never writes there, is gone
        request, fds, _, _ = socket.recv_fds(link, 4096, 3)
        if not request:
            os._exit(0)
        try:
            # the namespace for children is set by unshare only once: go back to the own one first
            kernel.call("setns", own_namespace, 0)
            kernel.call("unshare", kernel.CLONE_NEWPID)
            parsed = parse_request(request)
            # The first child after unshare(CLONE_NEWPID) is process 1 of the new namespace: the
            # kernel kills every other process in it when that one ends.
            if kernel.fork() == 0:
                become_init(request, parsed, fds, orders, rules, proc, slices)
        except OSError as error:
            kernel.report(fds[0], f"no sandbox could be forked: {error}")
        finally:
            for fd in fds:
                os.close(fd)


def become_init(
    request: bytes,
    parsed: dict[str, Any],
    fds: list[int],
    orders: socket.socket,
    rules: Rules,
    proc: int,
    slices: int,
) -> NoReturn:
    """In the fork: become the init process of a sandbox. ``fds``: the server's connection, and the
    job's standard input and output.
    """
    control, stdin, output = fds
    try:
        kernel.LIBC.signal(signal.SIGCHLD, kernel.SIG_DFL)
        kept, steps = rules
        # opened anew: a lock belongs to what was opened, not to the file
        time_slice = os.open(f"/proc/self/fd/{slices}", os.O_RDONLY)
        isolate(parsed, proc)
        init = os.pidfd_open(os.getpid())
        started, start = os.pipe()
        # a job with the same user id must not reach into this process
        kernel.call("prctl", kernel.PR_SET_DUMPABLE, 0, 0, 0, 0)
        kernel.keep_capabilities(kept)
        kernel.filter_calls(steps)
        # Sent last: the zygote puts the job into these namespaces as soon as it reads this.
        socket.send_fds(orders, [request], [control, stdin, output, init, start])
        kernel.close_but(0, started, control, time_slice)
        watch(started, control, parsed["memory"], time_slice)
    except BaseException as error:
        kernel.report(control, f"{type(error).__name__}: {error}")
    os._exit(1)


def isolate(request: dict[str, Any], proc: int) -> None:
    """Take a namespace of each kind, and a file system in which only /tmp and /dev/shm can be
    written to. ``proc``: the /proc of bubblewrap's namespaces. Raises OSError.
    """
    os.setpgid(0, 0)  # out of reach of signals to a process group
    # The process namespace is made already, and the user namespace comes last: once inside it, this
    # process may no longer mount over what bubblewrap made.
    kernel.call("unshare", kernel.SURROUNDINGS)
    # without this, mounts made here would appear in bubblewrap's namespace too
    kernel.call("mount", None, b"/", None, kernel.MS_REC | kernel.MS_PRIVATE, None)
    private = f"mode=1777,size={request['disk']},nr_inodes={request['files']}".encode()
    flags = kernel.MS_NOSUID | kernel.MS_NODEV
    for place in (b"/tmp", b"/dev/shm"):
        kernel.call("mount", b"tmpfs", place, b"tmpfs", flags, private)
    # pseudo terminals of its own: those of one instance can be opened by every job of the same user
    terminals = f"newinstance,ptmxmode=0666,mode=0600,max={TERMINALS}".encode()
    allowing_devices = kernel.MS_NOSUID | kernel.MS_NOEXEC
    kernel.call("mount", b"devpts", b"/dev/pts", b"devpts", allowing_devices, terminals)
    # Read-only: a write to /proc/self/autogroup would change the rank of all jobs, one to
    # oom_score_adj would spare the job when memory runs out. subset=pid: nothing of the machine,
    # such as /proc/meminfo, is in it.
    flags |= kernel.MS_NOEXEC | kernel.MS_RDONLY
    kernel.call("mount", b"proc", b"/proc", b"proc", flags, b"subset=pid")
    if not request["uid"]:
        own_user_namespace(proc)


def own_user_namespace(proc: int) -> None:
    """Take a user namespace, as an ordinary user: limits counted by user are then this job's alone.

    Further ones inside of it are switched off. Raises OSError.
    """
    kernel.call("unshare", kernel.CLONE_NEWUSER)
    # In this order: since Linux 3.19 gid_map cannot be written by an ordinary user before setgroups
    # is denied (user_namespaces(7)).
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{JOB_UID} 0 1"),
        ("gid_map", f"{JOB_UID} 0 1"),
    ):
        write_file(f"self/{name}", text, proc)
    # A namespace in a namespace would give back the capabilities with which most kernel exploits
    # begin.
    write_file("sys/user/max_user_namespaces", "0", proc)


def write_file(path: str, text: str, folder: int) -> None:
    """Write to a file below the folder of a descriptor. Raises OSError."""
    file = os.open(path, os.O_WRONLY, dir_fd=folder)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)
