"""First process inside the sandbox. Its text is passed to ``python -c``; it is never imported and sees no host file.

As pid 1 it waits for the program on standard input, forks, and ends with the program: the kernel then ends every
process left in the namespace. The child takes the limits and the job's user id before it runs the first line.
"""

import os
import resource
import signal
import sys

READY_FD, UID, SECONDS, MEMORY, PROCESSES, DISK, OPEN_FILES = map(int, sys.argv[1:8])
PACKAGES = sys.argv[8:]


def main():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # pid 1 gets no signal it has no handler for
    os.write(READY_FD, b"ready\n")
    os.close(READY_FD)
    program = read(0)
    devnull = os.open(os.devnull, os.O_RDONLY)
    os.dup2(devnull, 0)
    os.close(devnull)
    child = os.fork()
    if child:
        wait_for(child)
    confine()
    run(program)


def read(fd):
    parts = []
    while True:
        part = os.read(fd, 1 << 20)
        if not part:
            return b"".join(parts)
        parts.append(part)


def wait_for(child):
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def confine():
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    os.nice(5)
    limits = [
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_NPROC, PROCESSES),
        (resource.RLIMIT_FSIZE, DISK),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_SIGPENDING, 1024),
        (resource.RLIMIT_RTPRIO, 0),
    ]
    for kind, value in limits:
        resource.setrlimit(kind, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    if UID:
        os.setgroups([])
        os.setresgid(UID, UID, UID)
        os.setresuid(UID, UID, UID)


def run(program):
    main_module = type(sys)("__main__")
    sys.modules["__main__"] = main_module
    sys.argv = ["main.py"]
    sys.path.extend(PACKAGES)
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    import _sitebuiltins
    import builtins

    builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D")
    builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D")
    try:
        exec(compile(program, "main.py", "exec"), main_module.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        show(error, program)
        sys.exit(1)


def show(error, program):
    sys.stdout.flush()
    try:
        import linecache
        import traceback

        lines = program.decode(errors="replace").splitlines(True)
        linecache.cache["main.py"] = (len(program), None, lines, "main.py")
        frames = error.__traceback__.tb_next if error.__traceback__ else None
        traceback.print_exception(type(error), error, frames)
    except BaseException:
        os.write(2, f"{type(error).__name__}: {error}\n".encode(errors="replace")[:1000])


main()
