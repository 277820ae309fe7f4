"""The job's own process, once its sandbox is isolated: it takes its limits, then runs the program."""

from __future__ import annotations

import atexit
import linecache
import os
import resource
import sys
import threading
import traceback

from tool_servers.python_coder.inside import kernel

AT_A_STRETCH_S = 0.0002
"""A program that is new wakes often, and runs briefly."""


def confine(order, rank, mapped):
    """Take limits, identity and the nice value ``rank``. Memory counts from the ``mapped`` bytes
    that the interpreter has already.
    """
    first_to_end = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(first_to_end, b"1000")
    os.close(first_to_end)
    kernel.rank(0, rank, AT_A_STRETCH_S)
    limits = [
        (resource.RLIMIT_AS, mapped + order["memory"]),
        (resource.RLIMIT_NPROC, order["processes"]),
        (resource.RLIMIT_FSIZE, order["disk"]),
        (resource.RLIMIT_NOFILE, order["open_files"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_SIGPENDING, 1024),
        (resource.RLIMIT_RTPRIO, 0),
    ]
    for kind, value in limits:
        resource.setrlimit(kind, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (order["cpu"], order["cpu"] + 1))
    uid = order["uid"]
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def become_job(control, start, session):
    """Run the program that comes; in a session, every one that comes, with the same variables.
    Never returns.
    """
    main_module = sys.modules["__main__"]
    run(
        b"print(end='')", "main.py", {}
    )  # so that pages that it writes to are its own before the program comes
    own = os.getpid()
    program = receive(control)
    os.write(start, b"!")
    os.close(start)
    if not session:
        os.close(control)
        code = run(program, "main.py", main_module.__dict__)
        leave(code, own)
    calls = 0
    while True:
        calls += 1
        code = run(program, f"call_{calls}.py", main_module.__dict__)
        if os.getpid() != own:
            leave(code, own)
        flush()
        os.write(control, f"done {code}\n".encode())
        program = receive(control)


def receive(control):
    """One program: eight bytes of length, then the text. The process ends where the server has hung
    up.
    """
    head = read(control, 8)
    return read(control, int.from_bytes(head, "big"))


def read(fd, length):
    parts = []
    while length:
        part = os.read(fd, min(length, 1 << 20))
        if not part:
            os._exit(0)
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def run(program, name, variables):
    """Returns the exit code. What the program raises is shown as an interpreter would."""
    lines = program.decode(errors="replace").splitlines(True)
    linecache.cache[name] = (len(program), None, lines, name)
    try:
        exec(compile(program, name, "exec"), variables)
    except SystemExit as wanted:
        return exit_code(wanted.code)
    except BaseException as error:
        show(error)
        return 1
    return 0


def exit_code(wanted):
    if wanted is None or isinstance(wanted, int):
        return (wanted or 0) & 0xFF
    print(wanted, file=sys.stderr)
    return 1


def show(error):
    flush()
    try:
        frames = error.__traceback__.tb_next if error.__traceback__ else None
        traceback.print_exception(type(error), error, frames)
    except BaseException:
        os.write(2, f"{type(error).__name__}: {error}\n".encode(errors="replace")[:1000])


def leave(code, own):
    """End as an interpreter does (Py_FinalizeEx), but for taking apart modules that nobody will use
    again.

    The job's process, ``own``, says so first: the server need not wait while the kernel takes its
    memory apart. A fork of it ends in silence.
    """
    try:
        threading._shutdown()
        atexit._run_exitfuncs()
    except BaseException as error:
        show(error)
    flush()
    if os.getpid() == own:
        kernel.tell(0, f"exit {code}\n")
    os._exit(code)


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            pass
