"""Calls into the kernel for which Python has no function.

What a fork writes to it copies, page by page, 3 µs each: so what calls need is made before the
fork.
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct

LIBC = ctypes.PyDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = (
    0x0002_0000,
    0x0200_0000,
    0x0400_0000,
    0x0800_0000,
)
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x1000_0000, 0x2000_0000, 0x4000_0000  # sched.h
SURROUNDINGS = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 1 << 14, 1 << 18  # sys/mount.h
PR_SET_DUMPABLE, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 4, 22, 2  # linux/prctl.h
SIG_DFL = None  # signal(2)
CLOSE_RANGE, LAST_DESCRIPTOR = 436, 0x7FFF_FFFF  # asm/unistd.h, the same on every architecture
SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}.get(os.uname().machine)  # asm/unistd.h
KEEP_POLICY = 8  # SCHED_FLAG_KEEP_POLICY, linux/sched.h
CAPABILITY_VERSION, CAP_KILL, CAP_SYS_PTRACE, CAP_SYS_NICE = (
    0x2008_0522,
    5,
    19,
    23,
)  # linux/capability.h
CAPABILITY_HEADER = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)


class Filter(ctypes.Structure):
    """struct sock_fprog, linux/filter.h."""

    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_char_p)]


def call(name, *arguments):
    """What it returns. Raises OSError."""
    result = LIBC[name](*arguments)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def fork():
    """fork(2) alone, for a process of one thread that holds no lock: what Python does around its
    own is for others, and writes to 230 pages. Generators of random numbers stay as the parent's.
    Raises OSError.
    """
    return call("fork")


def rank(thread, nice, slice_s):
    """Set a thread's nice value, and (Linux 6.12) for how long it runs at a stretch: who wakes goes
    before longer ones.
    """
    if SCHED_SETATTR is None:
        os.setpriority(os.PRIO_PROCESS, thread, nice)
    else:
        call("syscall", SCHED_SETATTR, thread, sched_attr(nice, slice_s), 0)


@functools.lru_cache
def sched_attr(nice, slice_s):
    return struct.pack("=IIQiIQQQ", 48, 0, KEEP_POLICY, nice, 0, round(slice_s * 1e9), 0, 0)


def capabilities(kept=0):
    """``kept``, a mask, less those that this process does not have: for ``keep_capabilities``."""
    held = (ctypes.c_uint32 * 6)()
    call("capget", CAPABILITY_HEADER, held)
    kept &= held[1]
    return (ctypes.c_uint32 * 6)(kept, kept)


def keep_capabilities(kept):
    """These and no others."""
    call("capset", CAPABILITY_HEADER, kept)


def seccomp_filter(steps):
    """For ``filter_calls``."""
    return Filter(len(steps) // 8, steps)


def filter_calls(steps):
    """From now on, in this process and its children, only the system calls of the filter."""
    call("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(steps), 0, 0)


def close_but(lowest, *kept):
    """Close every descriptor from ``lowest`` on but these."""
    for fd in sorted(kept):
        if fd > lowest:
            call("syscall", CLOSE_RANGE, lowest, fd - 1, 0)
        lowest = fd + 1
    call("syscall", CLOSE_RANGE, lowest, LAST_DESCRIPTOR, 0)


def tell(fd, text):
    """Say something to the server, which may be gone."""
    try:
        os.write(fd, text.encode()[:1000])
    except OSError:
        pass
