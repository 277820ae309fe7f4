"""The system calls a job may make, as a classic BPF program for seccomp(2).

A deny list over the calls that existed when it was written, and an allow list over newer ones, so
that a newer kernel adds nothing. It closes what namespaces leave open: tracing, new namespaces,
mounts, keys, kernel objects that no resource limit counts, and socket families that are not
confined to a network namespace.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Iterable

from tool_servers.python_coder.sandbox.limits import SandboxError

# name: numbers on (x86_64, aarch64), None where there is no such call; from the kernel's unistd
# headers
DENIED: dict[str, tuple[int | None, int | None]] = {
    # other processes' memory and state
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "perf_event_open": (298, 241),
    # namespaces and mounts
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "setsid": (112, 157),  # a session of its own would get a share of the machine of its own
    # kernel objects and memory that outlive a process or that no limit counts
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "memfd_create": (319, 279),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "io_setup": (206, 0),
    "vmsplice": (278, 75),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27),
    # the kernel itself
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "create_module": (174, None),
    "get_kernel_syms": (177, None),
    "query_module": (178, None),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "vhangup": (153, 58),
    "fanotify_init": (300, 262),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    "personality": (135, 92),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "_sysctl": (156, None),
    # placement of memory on the machine's nodes
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
}
CLONE = (56, 220)
SOCKET = (41, 198)
SOCKETPAIR = (53, 199)
IOCTL = (16, 29)
PRCTL = (157, 167)
SETSOCKOPT = (54, 208)
SETPRIORITY = (141, 140)
OF_PROCESS: dict[str, tuple[int, int]] = {
    "prlimit64": (302, 261),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
}
"""Calls that change the process of their first argument. As an ordinary user the sandbox's init
process has the job's user id, so a job could blind or slow the process that watches it.
"""
INIT = 1

FIRST_NEW = 424
"""From here on every architecture numbers calls alike."""
ALLOWED_NEW = {
    "close_range": 436,
    "openat2": 437,
    "faccessat2": 439,
    "epoll_pwait2": 441,
    "futex_waitv": 449,
    "fchmodat2": 452,
}

NEW_NAMESPACES = 0x7E02_0000
"""CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}, sched.h."""
CLONE_PARENT = 0x8000
"""Would make the child one of the parent's parent: of the zygote, which knows nothing of it."""
FAMILIES = (1, 2, 10)
"""AF_UNIX, AF_INET, AF_INET6."""
TERMINAL_INJECTION = (0x5412, 0x541C)
"""TIOCSTI, TIOCLINUX."""
PRCTL_OPTIONS = {
    "PR_SET_PDEATHSIG": 1,
    "PR_GET_PDEATHSIG": 2,
    "PR_GET_DUMPABLE": 3,
    "PR_SET_NAME": 15,
    "PR_GET_NAME": 16,
    "PR_GET_SECCOMP": 21,
    "PR_CAPBSET_READ": 23,
    "PR_SET_TIMERSLACK": 29,
    "PR_GET_TIMERSLACK": 30,
    "PR_SET_NO_NEW_PRIVS": 38,
    "PR_GET_NO_NEW_PRIVS": 39,
    "PR_GET_TID_ADDRESS": 40,
    "PR_SET_VMA": 0x5356_4D41,  # glibc names its memory with it
}
"""All that is allowed (linux/prctl.h). Among the others are PR_SET_DUMPABLE, which makes files of
/proc/self the job's, and PR_FUTEX_HASH, which allocates memory that no limit counts.
"""
SOCKET_BUFFERS = (7, 8, 32, 33)
"""SO_SNDBUF, SO_RCVBUF, SO_SNDBUFFORCE, SO_RCVBUFFORCE: no limit of a job counts these buffers."""

# column of the tables above, AUDIT_ARCH_* of linux/audit.h
_ARCHITECTURES = {"x86_64": (0, 0xC000_003E), "aarch64": (1, 0xC000_00B7)}
_X32 = 0x4000_0000
# offsets in struct seccomp_data; of the arguments, which have 64 bits, the low halves
_NUMBER, _ARCHITECTURE = 0, 4
_ARGUMENT_0, _ARGUMENT_1, _ARGUMENT_2 = 16, 24, 32
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_KILL, _ALLOW, _ERRNO = 0x8000_0000, 0x7FFF_0000, 0x0005_0000

Instruction = tuple[int, int, int, int]
"""Code, steps to skip when true, steps to skip when false, operand (struct sock_filter)."""


def program(machine: str = platform.machine()) -> bytes:
    """The filter as bytes, for prctl(2). Raises SandboxError for a machine that is not known."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions(machine))


def instructions(machine: str) -> list[Instruction]:
    """The filter, instruction by instruction. Raises SandboxError."""
    if machine not in _ARCHITECTURES:
        raise SandboxError(f"no seccomp filter for {machine!r}; known: {', '.join(_ARCHITECTURES)}")
    column, architecture = _ARCHITECTURES[machine]
    filtered = [
        (CLONE[column], _clone()),
        (IOCTL[column], _deny(_ARGUMENT_1, TERMINAL_INJECTION)),
        (SOCKET[column], _socket()),
        (SOCKETPAIR[column], _socket()),
        (PRCTL[column], _prctl()),
        # whatever the level: in other levels than SOL_SOCKET these numbers are of no use to a job
        (SETSOCKOPT[column], _deny(_ARGUMENT_2, SOCKET_BUFFERS)),
        (SETPRIORITY[column], _setpriority()),
    ]
    for calls in OF_PROCESS.values():
        filtered.append((calls[column], _deny(_ARGUMENT_0, (INIT,))))
    # Numbers mean other calls in another architecture (int 0x80 on x86_64 makes i386 calls), so the
    # architecture is looked at first, and a wrong one ends the process.
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        _end(_KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        # x32 programs have AUDIT_ARCH_X86_64 too and set this bit in the number: a list of plain
        # numbers alone would let them through.
        steps += _when(_AT_LEAST, _X32, [_end(_ERRNO | errno.ENOSYS)])
    steps += _when(
        _AT_LEAST, FIRST_NEW, _one_of(ALLOWED_NEW.values(), otherwise=_ERRNO | errno.ENOSYS)
    )
    for numbers in DENIED.values():
        denied = numbers[column]
        if denied is not None:
            steps += _when(_EQUAL, denied, [_end(_ERRNO | errno.EPERM)])
    for number, block in filtered:
        # Each block ends with a return, so its jump offsets stay within the 255 that an instruction
        # of classic BPF can skip.
        steps += _when(_EQUAL, number, block)
    return [*steps, _end(_ALLOW)]


def _when(test: int, operand: int, block: list[Instruction]) -> list[Instruction]:
    return [(test, 0, len(block), operand), *block]


def _one_of(values: Iterable[int], otherwise: int) -> list[Instruction]:
    steps = []
    for value in values:
        steps += _when(_EQUAL, value, [_end(_ALLOW)])
    return [*steps, _end(otherwise)]


# clone3 passes its flags in memory, which a filter cannot read. It is one of the new calls,
# answered with ENOSYS, after which glibc falls back to clone.
def _clone() -> list[Instruction]:
    return [
        (_LOAD, 0, 0, _ARGUMENT_0),
        (_ANY_BIT, 0, 1, NEW_NAMESPACES | CLONE_PARENT),
        _end(_ERRNO | errno.EPERM),
        _end(_ALLOW),
    ]


def _socket() -> list[Instruction]:
    return [(_LOAD, 0, 0, _ARGUMENT_0), *_one_of(FAMILIES, otherwise=_ERRNO | errno.EAFNOSUPPORT)]


def _prctl() -> list[Instruction]:
    allowed = _one_of(PRCTL_OPTIONS.values(), otherwise=_ERRNO | errno.EPERM)
    return [(_LOAD, 0, 0, _ARGUMENT_0), *allowed]


def _setpriority() -> list[Instruction]:
    """Of single processes only, PRIO_PROCESS, and not of the sandbox's init process."""
    return [
        (_LOAD, 0, 0, _ARGUMENT_0),
        (_EQUAL, 1, 0, 0),
        _end(_ERRNO | errno.EPERM),
        *_deny(_ARGUMENT_1, (INIT,)),
    ]


def _deny(argument: int, values: Iterable[int]) -> list[Instruction]:
    """Refuse the call where the argument is one of the values."""
    steps = [(_LOAD, 0, 0, argument)]
    for value in values:
        steps += _when(_EQUAL, value, [_end(_ERRNO | errno.EPERM)])
    return [*steps, _end(_ALLOW)]


def _end(action: int) -> Instruction:
    return (_RETURN, 0, 0, action)
