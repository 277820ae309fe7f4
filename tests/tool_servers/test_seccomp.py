"""The system call filter, run step by step on the calls a job could make."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tool_servers.python_coder.sandbox import seccomp
from tool_servers.python_coder.sandbox.limits import SandboxError

MACHINES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
ALLOW, KILL = 0x7FFF_0000, 0x8000_0000


def decide(
    machine: str, number: int, arguments: tuple[int, ...] = (), architecture: int | None = None
) -> int:
    """What the kernel would do: interpret the filter on one call (struct seccomp_data)."""
    architecture = MACHINES[machine] if architecture is None else architecture
    data = struct.pack("=IIQ6Q", number, architecture, 0, *(*arguments, *[0] * 6)[:6])
    steps, at, register = seccomp.instructions(machine), 0, 0
    while True:
        code, jump_true, jump_false, operand = steps[at]
        at += 1
        if code == 0x06:
            return operand
        if code == 0x20:
            register = struct.unpack_from("=I", data, operand)[0]
        else:
            holds = {
                0x15: register == operand,
                0x35: register >= operand,
                0x45: bool(register & operand),
            }[code]
            at += jump_true if holds else jump_false


def error(number: int) -> int:
    return 0x0005_0000 | number


@pytest.mark.parametrize("machine", MACHINES)
@given(
    number=st.integers(0, 460) | st.integers(0, 2**32 - 1),
    arguments=st.tuples(*[st.integers(0, 40) | st.integers(0, 2**64 - 1)] * 3),
)
def test_every_call_gets_the_verdict_of_the_tables(
    machine: str, number: int, arguments: tuple[int, int, int]
) -> None:
    column = list(MACHINES).index(machine)
    verdict = decide(machine, number, arguments)
    low = [argument & 0xFFFF_FFFF for argument in arguments]
    if number >= seccomp.FIRST_NEW:
        assert verdict == (ALLOW if number in seccomp.ALLOWED_NEW.values() else error(errno.ENOSYS))
    elif number in {numbers[column] for numbers in seccomp.DENIED.values()}:
        assert verdict == error(errno.EPERM)
    elif number == seccomp.CLONE[column]:
        refused = seccomp.NEW_NAMESPACES | seccomp.CLONE_PARENT
        assert verdict == (error(errno.EPERM) if low[0] & refused else ALLOW)
    elif number in (seccomp.SOCKET[column], seccomp.SOCKETPAIR[column]):
        assert verdict == (ALLOW if low[0] in seccomp.FAMILIES else error(errno.EAFNOSUPPORT))
    elif number == seccomp.IOCTL[column]:
        assert verdict == (error(errno.EPERM) if low[1] in seccomp.TERMINAL_INJECTION else ALLOW)
    elif number == seccomp.PRCTL[column]:
        known = low[0] in seccomp.PRCTL_OPTIONS.values()
        assert verdict == (ALLOW if known else error(errno.EPERM))
    elif number == seccomp.SETSOCKOPT[column]:
        assert verdict == (error(errno.EPERM) if low[2] in seccomp.SOCKET_BUFFERS else ALLOW)
    elif number == seccomp.SETPRIORITY[column]:
        assert verdict == (ALLOW if low[0] == 0 and low[1] != 1 else error(errno.EPERM))
    elif number in {numbers[column] for numbers in seccomp.OF_PROCESS.values()}:
        assert verdict == (error(errno.EPERM) if low[0] == 1 else ALLOW)
    else:
        assert verdict == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", seccomp.DENIED)
def test_denied_calls_are_denied(machine: str, name: str) -> None:
    number = seccomp.DENIED[name][list(MACHINES).index(machine)]
    if number is not None:
        assert decide(machine, number) == error(errno.EPERM)


@pytest.mark.parametrize("machine", MACHINES)
def test_namespaces_and_children_of_others_are_denied_whatever_else_is_asked_for(
    machine: str,
) -> None:
    clone = seccomp.CLONE[list(MACHINES).index(machine)]
    for bit in (
        0x0002_0000,
        0x0200_0000,
        0x0400_0000,
        0x0800_0000,
        0x1000_0000,
        0x2000_0000,
        0x4000_0000,
        seccomp.CLONE_PARENT,
    ):
        assert decide(machine, clone, (bit | 17,)) == error(errno.EPERM)
    assert decide(machine, clone, (17,)) == ALLOW, "fork"
    assert decide(machine, clone, (0x003D_0F00,)) == ALLOW, "a thread"


@pytest.mark.parametrize("machine", MACHINES)
def test_foreign_architecture_is_killed(machine: str) -> None:
    other = next(value for name, value in MACHINES.items() if name != machine)
    assert decide(machine, 0, architecture=other) == KILL
    assert decide("x86_64", 59 | 0x4000_0000) == error(errno.ENOSYS), "x32"


def test_unknown_machine_is_refused() -> None:
    with pytest.raises(SandboxError, match="sparc"):
        seccomp.program("sparc")


@pytest.mark.parametrize(
    ("machine", "header"),
    [("x86_64", "x86_64-linux-gnu/asm/unistd_64.h"), ("aarch64", "asm-generic/unistd.h")],
)
def test_numbers_agree_with_the_kernels_headers(machine: str, header: str) -> None:
    path = Path("/usr/include", header)
    if not path.exists():
        pytest.skip(f"{path} is not installed")
    numbers = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\b", path.read_text()))
    column = list(MACHINES).index(machine)
    table = {
        name: pair[column] for name, pair in seccomp.DENIED.items() if pair[column] is not None
    }
    table |= {
        "clone": seccomp.CLONE[column],
        "socket": seccomp.SOCKET[column],
        "ioctl": seccomp.IOCTL[column],
        "prctl": seccomp.PRCTL[column],
        "setsockopt": seccomp.SETSOCKOPT[column],
        "setpriority": seccomp.SETPRIORITY[column],
    }
    table |= {name: pair[column] for name, pair in seccomp.OF_PROCESS.items()}
    table |= {"socketpair": seccomp.SOCKETPAIR[column], **seccomp.ALLOWED_NEW}
    wrong = {
        name: number for name, number in table.items() if int(numbers.get(name, number)) != number
    }
    assert not wrong
    assert len(set(table) & set(numbers)) > 50
