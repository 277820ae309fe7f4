"""The first process of a sandbox, once it is isolated: it watches the job's memory."""

from __future__ import annotations

import os
import re
import signal
import time

from tool_servers.python_coder.inside.kernel import tell

WATCH_INTERVAL_S = 0.05
"""Between two looks at a job's memory. What a job can take in between is not stopped in time."""
BACKGROUND_S = 0.05
"""A job that takes longer steps back behind those that do not."""
BACKGROUND_AGAIN_S = 1.0
"""It could undo that."""
JOB = 2
"""The process id of the first process that is forked into a sandbox."""


def look_after(started, control, memory):
    """Until the nursery, which sees the job's process end, kills this one, and all that the job left with it."""
    os.read(started, 1)
    begin, seen, back = time.monotonic(), 0.0, BACKGROUND_S
    while True:
        signal.sigtimedwait({signal.SIGCHLD}, WATCH_INTERVAL_S)
        reap()
        age = time.monotonic() - begin
        if age - seen < WATCH_INTERVAL_S:
            continue
        seen = age
        if memory_in_use(exact=False) > memory and memory_in_use(exact=True) > memory:
            tell(control, "memory\n")
            os._exit(0)
        if age > back and step_back():
            back = age + BACKGROUND_AGAIN_S


def reap():
    """Processes whose parent has ended become this one's children."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def step_back():
    """Where the kernel schedules by session, let the job's have what others leave (sched(7), autogroups)."""
    try:
        with open(f"/proc/{JOB}/autogroup", "w") as file:
            file.write("19")
    except OSError:
        return False  # no such groups, or the kernel wants fewer changes a second
    return True


def memory_in_use(exact):
    """Bytes of memory of all processes in the sandbox but this one.

    Not ``exact``: pages shared between processes count in each, which is cheap and never too low.
    """
    return sum(memory_of(pid, exact) for pid in os.listdir("/proc") if pid.isdigit() and pid != "1")


def memory_of(pid, exact):
    # proc_pid_status(5) and proc_pid_smaps(5), in kB
    name, wanted = (
        ("smaps_rollup", rb"(?:Pss_Anon|Pss_Shmem|SwapPss)") if exact else ("status", rb"(?:RssAnon|RssShmem|VmSwap)")
    )
    try:
        with open(f"/proc/{pid}/{name}", "rb", 0) as file:
            text = file.read()
    except PermissionError:
        return memory_of(pid, exact=False) if exact else 0
    except OSError:
        return 0  # it has ended
    return sum(int(kb) << 10 for kb in re.findall(rb"^" + wanted + rb":\s+(\d+) kB", text, re.MULTILINE))
