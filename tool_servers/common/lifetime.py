"""End a server together with the process that started it."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # prctl(2)


class ParentGone(Exception):
    """The parent had already ended when this process asked to end with it."""


def end_with_parent(parent: int = 0) -> None:
    """Ask the kernel to SIGKILL this process when its parent ends, however that happens.

    The kernel watches the *thread* that started this process (prctl(2), PR_SET_PDEATHSIG): start
    servers from a thread that lives as long as they should. ``parent`` is the expected parent's
    process id, 0 when not known.

    Raises ParentGone when the parent ended before the kernel was asked, OSError when the kernel
    refuses.
    """
    before = parent or os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) was refused")
    if os.getppid() != before:
        raise ParentGone(f"parent {before} has ended")
