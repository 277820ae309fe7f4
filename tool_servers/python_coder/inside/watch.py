"""The first process of a sandbox, once it is isolated: it watches the job's memory, and its CPU time.

Short programs come first: one that has burnt CPU steps back behind those that have not, and one of many processes
counts no more than one of a single process, so that a fork bomb and a loop are the same to its neighbours.
"""

from __future__ import annotations

import math
import os
import re
import signal
import time

from tool_servers.python_coder.inside.kernel import tell

WATCH_INTERVAL_S = 0.05
"""Between two looks at a job's memory. What a job can take in between is not stopped in time."""
STEPS = ((1.0, 15), (0.05, 10))
"""Seconds of CPU time from which on a job as a whole has the weight of one process of this nice value (sched(7))."""
WEIGHT_OF_A_STEP = 1.25
STEP_AGAIN_S = 0.5
"""New processes share in what was set, but their number changes, and with it what each may weigh."""
JOB = 2
"""The process id of the first process that is forked into a sandbox."""


def look_after(started, control, memory):
    """Until the nursery, which sees the job's process end, kills this one, and all that the job left with it."""
    os.read(started, 1)
    seen = stepped = time.monotonic()
    level = 0
    while True:
        signal.sigtimedwait({signal.SIGCHLD}, WATCH_INTERVAL_S)
        reap()
        now = time.monotonic()
        if now - seen < WATCH_INTERVAL_S:
            continue
        seen = now
        if memory_in_use(exact=False) > memory and memory_in_use(exact=True) > memory:
            tell(control, "memory\n")
            os._exit(0)
        if level != STEPS[0][1]:
            due = next((nice for seconds, nice in STEPS if cpu_seconds() >= seconds), 0)
            if due > level:
                level, stepped = due, 0.0
        if level and now - stepped > STEP_AGAIN_S:
            step_back(level)
            stepped = now


def reap():
    """Processes whose parent has ended become this one's children."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def cpu_seconds():
    """CPU time of the job: of its processes, and of those that have ended and were waited for."""
    ended = os.times()
    ticks = sum(ticks_of(pid) for pid in processes())
    return ended.children_user + ended.children_system + ticks / os.sysconf("SC_CLK_TCK")


def ticks_of(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb", 0) as file:
            fields = file.read().rpartition(b") ")[2].split()
    except OSError:
        return 0  # it has ended
    return sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime: proc_pid_stat(5)


def step_back(level):
    """Have all threads of the job weigh together what one of the nice value ``level`` does, or less."""
    threads = [int(thread) for pid in processes() for thread in threads_of(pid)]
    nice = level + math.ceil(math.log(max(1, len(threads)), WEIGHT_OF_A_STEP))
    for thread in threads:
        try:
            os.setpriority(os.PRIO_PROCESS, thread, min(nice, 19))
            if nice > 19:
                os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
        except OSError:
            pass  # it has ended, or it is lower already
    try:
        with open(f"/proc/{JOB}/autogroup", "w") as file:  # where the kernel schedules by session
            file.write(str(level))
    except OSError:
        pass


def threads_of(pid):
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


def processes():
    """Those in the sandbox but this one."""
    return [pid for pid in os.listdir("/proc") if pid.isdigit() and pid != "1"]


def memory_in_use(exact):
    """Bytes of memory of all processes in the sandbox but this one.

    Not ``exact``: pages shared between processes count in each, which is cheap and never too low.
    """
    return sum(memory_of(pid, exact) for pid in processes())


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
