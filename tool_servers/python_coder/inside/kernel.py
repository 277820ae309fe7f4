"""System calls that Python has no function for.

A fork copies each page that it writes to, at about 3 µs per page. So the arguments of calls that
are made after a fork are built before it.
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
from typing import Any

# PyDLL keeps the GIL during a call: these are short, and a child that fork(2) makes while another
# thread holds the GIL could never take it.
LIBC = ctypes.PyDLL(None, use_errno=True)

# linux/sched.h
CLONE_NEWNS = 0x0002_0000
CLONE_NEWCGROUP = 0x0200_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000
SURROUNDINGS = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP
"""Every namespace of a job but those of its processes and its users."""

# sys/mount.h
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REC = 1 << 14
MS_PRIVATE = 1 << 18

# linux/prctl.h
# A process that is not dumpable cannot be traced, and its files in /proc belong to root.
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2

SIG_DFL = None  # signal(2): the null pointer
CLOSE_RANGE = 436  # asm/unistd.h, the same on every architecture
# glibc has had no wrapper for this call until 2.41, so it is made by its number.
SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}.get(os.uname().machine)  # asm/unistd.h
KEEP_POLICY = 8  # SCHED_FLAG_KEEP_POLICY, linux/sched.h
LAST_DESCRIPTOR = 0x7FFF_FFFF

# linux/capability.h
# Version 3, with 64 capabilities in two words: six numbers (effective, permitted and inheritable
# for each word).
CAPABILITY_VERSION = 0x2008_0522
CAP_KILL = 5
CAP_SYS_PTRACE = 19
CAP_SYS_NICE = 23
CAPABILITY_HEADER = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)


class Filter(ctypes.Structure):
    """struct sock_fprog of linux/filter.h: the number of instructions, and where they are."""

    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_char_p)]


def call(name: str, *arguments: Any) -> int:
    """Call a function of the C library and return its result. Raises OSError where that is -1."""
    result: int = LIBC[name](*arguments)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def fork() -> int:
    """Fork with fork(2) alone, for a process of one thread that holds no lock. Raises OSError.

    os.fork also runs handlers that other programs need, and so writes to 230 pages. Random number
    generators keep their parent's state: see ``zygote.reseed``.
    """
    return call("fork")


def set_priority(thread: int, nice: int, slice_s: float) -> None:
    """Set a thread's nice value and, on Linux 6.12 and newer, its time slice in seconds.

    A thread with a shorter slice that wakes up runs before those with longer ones. Raises OSError.
    """
    if SCHED_SETATTR is None:
        os.setpriority(os.PRIO_PROCESS, thread, nice)
    else:
        call("syscall", SCHED_SETATTR, thread, sched_attr(nice, slice_s), 0)


@functools.lru_cache
def sched_attr(nice: int, slice_s: float) -> bytes:
    """struct sched_attr of linux/sched/types.h."""
    return struct.pack("=IIQiIQQQ", 48, 0, KEEP_POLICY, nice, 0, round(slice_s * 1e9), 0, 0)


def capability_set(kept: int = 0) -> ctypes.Array[ctypes.c_uint32]:
    """The argument of ``keep_capabilities``: the mask ``kept``, less those not held already."""
    held = (ctypes.c_uint32 * 6)()
    call("capget", CAPABILITY_HEADER, held)
    # capset(2) refuses a set with a capability that is not permitted (EPERM), also one that a
    # container has taken away.
    kept &= held[1]
    # Effective and permitted; inheritable stays empty, so no program that is executed has any.
    return (ctypes.c_uint32 * 6)(kept, kept)


def keep_capabilities(kept: ctypes.Array[ctypes.c_uint32]) -> None:
    """Drop every capability that is not in ``kept``. Raises OSError."""
    call("capset", CAPABILITY_HEADER, kept)


def seccomp_filter(steps: bytes) -> Filter:
    """The argument of ``filter_calls``: BPF instructions of eight bytes each."""
    return Filter(len(steps) // 8, steps)


def filter_calls(steps: Filter) -> None:
    """Allow this process and its children only the system calls of the filter. Raises OSError."""
    call("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(steps), 0, 0)


def close_but(lowest: int, *kept: int) -> None:
    """Close every descriptor from ``lowest`` on but these."""
    # One call for each gap between the descriptors that are kept: /proc need not be read, which may
    # be another namespace's by now.
    for fd in sorted(kept):
        if fd > lowest:
            call("syscall", CLOSE_RANGE, lowest, fd - 1, 0)
        lowest = fd + 1
    call("syscall", CLOSE_RANGE, lowest, LAST_DESCRIPTOR, 0)


def report(fd: int, text: str) -> None:
    """Write a short message to the server. One that is gone is no error."""
    try:
        os.write(fd, text.encode()[:1000])
    except OSError:
        pass
