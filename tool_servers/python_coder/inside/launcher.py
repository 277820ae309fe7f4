"""The job's own process, once its sandbox is isolated: takes its limits, then runs the program."""

from __future__ import annotations

import atexit
import linecache
import os
import resource
import sys
import threading
import traceback
from typing import Any, NoReturn

from tool_servers.python_coder.inside import kernel
from tool_servers.python_coder.inside.program_text import compile_program, with_value

SLICE_S = 0.0002
"""Scheduler slice of a new program: most wake often, and run briefly."""


def confine(request: dict[str, Any], nice: int, mapped: int) -> None:
    """Take limits, identity and the nice value ``nice``.

    ``mapped``: bytes of address space that the interpreter has already; memory counts from there.
    """
    kernel.set_priority(0, nice, SLICE_S)
    limits = [
        # Of address space, which is refused at once as MemoryError; what is really used is the
        # watcher's to measure.
        (resource.RLIMIT_AS, mapped + request["memory"]),
        (resource.RLIMIT_NPROC, request["processes"]),
        (resource.RLIMIT_FSIZE, request["disk"]),
        (resource.RLIMIT_NOFILE, request["open_files"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_SIGPENDING, 1024),
        (resource.RLIMIT_RTPRIO, 0),
    ]
    for kind, value in limits:
        resource.setrlimit(kind, (value, value))
    # the second limit kills: SIGXCPU at the first can be caught
    resource.setrlimit(resource.RLIMIT_CPU, (request["cpu"], request["cpu"] + 1))
    uid = request["uid"]
    if uid:
        # Groups, then the group, then the user: after the last of them the others may no longer be
        # changed.
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def end_first_without_memory() -> None:
    """Have the kernel end this process before others when the machine's memory runs out.

    To be called before the sandbox's /proc, which is read-only, is in the place of /proc.
    """
    # Raising one's own score needs no capability, and a fork inherits it.
    score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(score, b"1000")
    os.close(score)


def become_job(control: int, start: int, session: bool) -> NoReturn:
    """Run the program that comes; in a session, every one that comes, with the same variables."""
    main_module = sys.modules["__main__"]
    # pages that every program writes to are this process's own before the program comes
    run(b"print(end='')", "main.py", {})
    own = os.getpid()
    program = receive_program(control)
    # The watcher sleeps until then: looks at a sandbox that waits for its program would only cost
    # time.
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
        program = receive_program(control)


def receive_program(control: int) -> bytes:
    """One program: eight bytes of length, then the text. Ends the process where the server has
    closed the connection.
    """
    length = int.from_bytes(read_exactly(control, 8), "big")
    return read_exactly(control, length)


def read_exactly(fd: int, length: int) -> bytes:
    """So many bytes. Ends the process where there are fewer."""
    parts = []
    while length:
        part = os.read(fd, min(length, 1 << 20))
        if not part:
            os._exit(0)
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def run(program: bytes, name: str, variables: dict[str, Any]) -> int:
    """Run the program and return its exit code. What it raises is shown as an interpreter shows it,
    and so is the value of its last line where it prints nothing.
    """
    text = program.decode(errors="replace")
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)  # for tracebacks
    try:
        text, code = compile_program(program, name)
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
        parts = with_value(text, name)
        if parts is None:
            exec(code, variables)
        else:
            exec(parts[0], variables)
            value = eval(parts[1], variables)
            if value is not None:
                print(value if isinstance(value, str) else repr(value))
    except SystemExit as wanted:
        return exit_code(wanted.code)
    except BaseException as error:
        show(error)
        return 1
    return 0


def exit_code(wanted: object) -> int:
    """The exit code that an interpreter makes of the argument of sys.exit."""
    if wanted is None:
        return 0
    if isinstance(wanted, int):
        return wanted & 0xFF
    print(wanted, file=sys.stderr)
    return 1


def show(error: BaseException) -> None:
    """Print the traceback, without the frames of this module."""
    flush()
    try:
        frames = error.__traceback__.tb_next if error.__traceback__ else None
        traceback.print_exception(type(error), error, frames)
    except BaseException:  # the program may have replaced what printing needs
        os.write(2, f"{type(error).__name__}: {error}\n".encode(errors="replace")[:1000])


def leave(code: int, own: int) -> NoReturn:
    """End as an interpreter does (Py_FinalizeEx), without taking apart modules nobody uses again.

    The job's process, ``own``, reports its end first: the server need not wait while the kernel
    frees its memory. A fork of it ends without a report.
    """
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as at exit
        atexit._run_exitfuncs()
    except BaseException as error:
        show(error)
    flush()
    if os.getpid() == own:
        kernel.report(0, f"exit {code}\n")
    os._exit(code)


def flush() -> None:
    """Flush the standard streams, which the program may have closed or replaced."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            pass
