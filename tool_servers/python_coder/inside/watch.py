"""The first process of a sandbox, once it is isolated: it watches the job's memory, and its CPU
time.

Short programs come first: one that has burnt CPU steps back behind those that have not, and one of
many processes counts no more than one of a single process, so that a fork bomb and a loop are the
same to its neighbours. Crowds take turns, one at a time: the others are stopped meanwhile.
"""

from __future__ import annotations

import fcntl
import math
import os
import re
import signal
import time

from tool_servers.python_coder.inside.kernel import rank, tell

FIRST_LOOK_S = 0.01
WATCH_INTERVAL_S = 0.05
"""Between two looks at a job's memory. What a job can take in between is not stopped in time."""
EXACT_PAUSE = 4
"""A look at many processes that share memory takes long; the next comes after so many times as
long.
"""
STEPS = ((0.5, 10), (0.02, 5))
"""Seconds of CPU time from which on a job as a whole has the weight of one process so many nice
values behind the server (sched(7)).

None is lower than the first: processes that were forked from one share locks in the kernel (of
their memory, of the files they map) with all others, the zygote too, and every fork and every end
takes them. One that holds a lock and is never scheduled stops all others: with nice 19, for more
than a second.
"""
WEIGHT_OF_A_STEP = 1.25
CROWD = 4
"""A job of more threads steps back at once, and waits for its turn."""
TURN_S, REST_S, ASK_AGAIN_S = 0.05, 0.05, 0.01
"""After each turn no crowd runs for a while: forks and ends hold up every other job. Who had a turn
asks again no sooner than those who wait.
"""
LOOK_S = 0.0002
"""For this process to run at a stretch: it must not wait for what it is to slow."""
AT_A_STRETCH_S = 0.02
"""Of programs that stepped back: whoever wakes and runs more briefly need not wait for the end of
it.
"""
STEP_AGAIN_S = 0.5
"""New processes share in what was set, but their number changes, and with it what each may weigh."""


def watch(started, control, memory, turn):
    """Until the zygote, which sees the job's process end, kills this one, and all that the job
    left with it.
    """
    rank(0, os.getpriority(os.PRIO_PROCESS, 0), LOOK_S)
    os.read(started, 1)
    seen = stepped = exact_after = time.monotonic()
    pause, level, ranked, stopped = FIRST_LOOK_S, 0, 0, False
    while True:
        signal.sigtimedwait({signal.SIGCHLD}, pause)
        reap()
        now = time.monotonic()
        if now - seen < pause:
            continue
        seen = now
        if stopped:
            stopped = not go_on(turn)
            pause = ASK_AGAIN_S if stopped else TURN_S
            continue
        pause = min(2 * pause, WATCH_INTERVAL_S)
        seconds, threads = used()
        level = max(level, due(seconds, threads))
        if level and (threads > ranked or now - stepped > STEP_AGAIN_S):
            step_back(level)
            stepped, ranked = now, threads
        if now >= exact_after and memory_in_use(exact=False) > memory:
            begun = time.monotonic()
            if memory_in_use(exact=True) > memory:
                tell(control, "memory\n")
                os._exit(0)
            looked = time.monotonic()
            exact_after = looked + EXACT_PAUSE * (looked - begun)
        stopped = threads > CROWD
        if stopped:
            stop(turn)
            pause = ASK_AGAIN_S
        else:
            fcntl.flock(turn, fcntl.LOCK_UN)


def stop(turn):
    """Stop every process of the job, and leave the turn to another crowd. One that is stopped holds
    no lock of the kernel's.
    """
    signal_all(signal.SIGSTOP)
    time.sleep(REST_S)
    fcntl.flock(turn, fcntl.LOCK_UN)


def go_on(turn):
    """Whether it is this job's turn: then its processes run again. The kernel frees a turn whose
    holder was killed.
    """
    try:
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    signal_all(signal.SIGCONT)
    return True


def signal_all(number):
    if os.getpid() != 1:
        return  # of no namespace of its own: there are others' processes among them
    try:
        os.kill(-1, number)
    except ProcessLookupError:
        pass  # none is left


def reap():
    """Processes whose parent has ended become this one's children."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def used():
    """CPU time of the job in seconds, of its processes and of those that have ended and were waited
    for; its threads.
    """
    ended = os.times()
    ticks = threads = 0
    for pid in processes():
        try:
            with open(f"/proc/{pid}/stat", "rb", 0) as file:
                fields = file.read().rpartition(b") ")[2].split()
        except OSError:
            continue  # it has ended
        ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime: proc_pid_stat(5)
        threads += int(fields[17])  # num_threads
    return ended.children_user + ended.children_system + ticks / os.sysconf("SC_CLK_TCK"), threads


def due(seconds, threads):
    """The level of a job that has used so many seconds; a crowd has the lowest at once, before any
    has used a clock tick.
    """
    by_time = next((nice for least, nice in STEPS if seconds >= least), 0)
    return max(by_time, STEPS[-1][1]) if threads > CROWD else by_time


def step_back(level):
    """Have all threads of the job weigh together what one of the nice value ``level`` does, as far
    as the lowest allows.
    """
    threads = [int(thread) for pid in processes() for thread in threads_of(pid)]
    server = os.getpriority(os.PRIO_PROCESS, 0)  # its value is this process's too
    nice = level + math.ceil(math.log(max(1, len(threads)), WEIGHT_OF_A_STEP))
    for thread in threads:
        try:
            rank(thread, min(server + min(nice, STEPS[0][1]), 19), AT_A_STRETCH_S)
        except OSError:
            pass  # it has ended, or it is lower already


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
        ("smaps_rollup", rb"(?:Pss_Anon|Pss_Shmem|SwapPss)")
        if exact
        else ("status", rb"(?:RssAnon|RssShmem|VmSwap)")
    )
    try:
        with open(f"/proc/{pid}/{name}", "rb", 0) as file:
            text = file.read()
    except PermissionError:
        return memory_of(pid, exact=False) if exact else 0
    except OSError:
        return 0  # it has ended
    return sum(
        int(kb) << 10 for kb in re.findall(rb"^" + wanted + rb":\s+(\d+) kB", text, re.MULTILINE)
    )
