"""The init process of a sandbox, once it is isolated: watches the job's memory and CPU time.

Short programs come first: a job that has used CPU time steps back behind those that have not, and
the processes of a job weigh together what a single one does, so that a fork bomb costs its
neighbours what an endless loop does. Jobs of many processes run one at a time, in time slices: the
others are stopped meanwhile.
"""

from __future__ import annotations

import fcntl
import math
import os
import re
import signal
import time
from typing import NoReturn

from tool_servers.python_coder.inside.kernel import report, set_priority

FIRST_LOOK_S = 0.01
WATCH_INTERVAL_S = 0.05
"""Between two looks at a job's memory. What a job can take in between is not stopped in time."""
EXACT_PAUSE = 4
"""A look at many processes that share memory takes long: the next comes after so many times as
long.
"""
STEPS = ((0.5, 10), (0.02, 5))
"""Seconds of CPU time from which on a job as a whole has the weight of one process so many nice
values behind the server (sched(7)).

None is lower than the first: processes that were forked from one share locks in the kernel (of
their memory, of the files they map) with all others, the zygote too, and every fork and every exit
takes them. A process that holds a lock and is never scheduled stops all others: with nice 19, for
more than a second.
"""
WEIGHT_PER_NICE_VALUE = 1.25
MULTI_PROCESS = 4
"""A job of more threads is a multi-process job: it steps back at once, and waits for its time
slice.
"""
SLICE_S = 0.05
REST_S = 0.05
"""After each time slice no multi-process job runs for a while, since their forks and exits hold up
every other job. One that had a slice asks again no sooner than those who wait.
"""
RETRY_S = 0.01
WATCHER_SLICE_S = 0.0002
"""Scheduler slice of this process: it must not wait for the processes that it is to slow."""
JOB_SLICE_S = 0.02
"""Scheduler slice of programs that stepped back: who wakes and runs more briefly need not wait for
its end.
"""
STEP_AGAIN_S = 0.5
"""New processes inherit the priority, but their number changes, and with it the weight of each."""


def watch(started: int, control: int, memory: int, time_slice: int) -> NoReturn:
    """Watch the job until the zygote, which sees the job's process end, kills this process and with
    it all that the job left.

    ``started``: a pipe that the job's process writes to when its program comes. ``control``: the
    server, which is told when the job uses more than ``memory`` bytes; that ends the job.
    ``time_slice``: a descriptor of the file that multi-process jobs lock while they run.
    """
    set_priority(0, os.getpriority(os.PRIO_PROCESS, 0), WATCHER_SLICE_S)
    os.read(started, 1)
    seen = stepped = exact_after = time.monotonic()
    pause, level, ranked, stopped = FIRST_LOOK_S, 0, 0, False
    while True:
        # Sleeps, and wakes at once when a process is left to this one: an init process that never
        # waits would fill the limit of processes with zombies.
        signal.sigtimedwait({signal.SIGCHLD}, pause)
        reap_orphans()
        now = time.monotonic()
        if now - seen < pause:
            continue
        seen = now
        if stopped:
            stopped = not resume_if_free(time_slice)
            pause = RETRY_S if stopped else SLICE_S
            continue
        pause = min(2 * pause, WATCH_INTERVAL_S)
        seconds, threads = cpu_seconds_and_threads()
        # Never back up: a job that ends its processes as they step back would always run at full
        # weight.
        level = max(level, priority_level(seconds, threads))
        if level and (threads > ranked or now - stepped > STEP_AGAIN_S):
            step_back(level)
            stepped, ranked = now, threads
        if now >= exact_after and memory_in_use(exact=False) > memory:
            begun = time.monotonic()
            # The cheap sum is never too low, so only a job that it finds too large is looked at
            # exactly.
            if memory_in_use(exact=True) > memory:
                report(control, "memory\n")
                # The end of process 1 of the namespace: the kernel kills what is left of the job.
                os._exit(0)
            looked = time.monotonic()
            exact_after = looked + EXACT_PAUSE * (looked - begun)
        stopped = threads > MULTI_PROCESS
        if stopped:
            stop_and_release(time_slice)
            pause = RETRY_S
        else:
            fcntl.flock(time_slice, fcntl.LOCK_UN)


def stop_and_release(time_slice: int) -> None:
    """Stop every process of the job, then leave the time slice to another job.

    A process that is stopped by a signal holds no lock of the kernel's.
    """
    # Processes that are forked meanwhile are missed; the next look stops them too.
    signal_job(signal.SIGSTOP)
    time.sleep(REST_S)
    fcntl.flock(time_slice, fcntl.LOCK_UN)


def resume_if_free(time_slice: int) -> bool:
    """Take the time slice and let the job's processes run again, if no other job has it.

    The kernel frees the slice of a holder that was killed.
    """
    try:
        fcntl.flock(time_slice, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    signal_job(signal.SIGCONT)
    return True


def signal_job(number: int) -> None:
    """Send a signal to every process of the job."""
    if os.getpid() != 1:
        return  # not in a process namespace of its own: -1 would reach other jobs' processes
    try:
        os.kill(-1, number)
    except ProcessLookupError:
        pass  # none is left


def reap_orphans() -> None:
    """Wait for processes whose parent has ended, which are this process's children then."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def cpu_seconds_and_threads() -> tuple[float, int]:
    """CPU time of the job's processes, those that have ended included, and its threads."""
    ended = os.times()
    ticks = threads = 0
    for pid in job_processes():
        try:
            with open(f"/proc/{pid}/stat", "rb", 0) as file:
                # the name in parentheses may hold spaces and parentheses
                fields = file.read().rpartition(b") ")[2].split()
        except OSError:
            continue  # it has ended
        ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime: proc_pid_stat(5)
        threads += int(fields[17])  # num_threads
    waited_for = ended.children_user + ended.children_system
    return waited_for + ticks / os.sysconf("SC_CLK_TCK"), threads


def priority_level(seconds: float, threads: int) -> int:
    """Nice values by which a job steps back that has used so many seconds.

    A multi-process job steps back at once, before its processes have used a clock tick each.
    """
    level = 0
    if threads > MULTI_PROCESS:
        level = STEPS[-1][1]
    for least, nice in STEPS:
        if seconds >= least:
            level = max(level, nice)
    return level


def step_back(level: int) -> None:
    """Have all threads of the job weigh together what one with the nice value ``level`` does, as
    far as the lowest step allows.
    """
    threads = []
    for pid in job_processes():
        threads += threads_of(pid)
    server = os.getpriority(os.PRIO_PROCESS, 0)  # this process has the server's nice value
    nice = level + math.ceil(math.log(max(1, len(threads)), WEIGHT_PER_NICE_VALUE))
    for thread in threads:
        try:
            set_priority(int(thread), min(server + min(nice, STEPS[0][1]), 19), JOB_SLICE_S)
        except OSError:
            pass  # it has ended, or its priority is lower already


def threads_of(pid: str) -> list[str]:
    """Thread ids of a process, none where it has ended."""
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


def job_processes() -> list[str]:
    """Ids of the processes in the sandbox but this one."""
    return [pid for pid in os.listdir("/proc") if pid.isdigit() and pid != "1"]


def memory_in_use(exact: bool) -> int:
    """Bytes of memory of the job's processes.

    Not ``exact``: pages that processes share count in each, which is cheap and never too low.
    """
    return sum(memory_of(pid, exact) for pid in job_processes())


def memory_of(pid: str, exact: bool) -> int:
    """Bytes of memory of a process; 0 where it has ended."""
    # proc_pid_status(5) and proc_pid_smaps(5), in kB
    name, wanted = "status", rb"(?:RssAnon|RssShmem|VmSwap)"
    if exact:
        name, wanted = "smaps_rollup", rb"(?:Pss_Anon|Pss_Shmem|SwapPss)"
    try:
        with open(f"/proc/{pid}/{name}", "rb", 0) as file:
            text = file.read()
    except PermissionError:
        return memory_of(pid, exact=False) if exact else 0
    except OSError:
        return 0  # it has ended
    found = re.findall(rb"^" + wanted + rb":\s+(\d+) kB", text, re.MULTILINE)
    return sum(map(int, found)) << 10
