"""Attack the sandbox when the server starts, and say what got through.

Each probe is a program that tries, for real, what a job must not be able to do, on the sandbox that
jobs will get. The level ``full`` is reached when every probe fails to do harm. There is no lower
level to fall back to.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tool_servers.python_coder.sandbox import probes
from tool_servers.python_coder.sandbox.limits import Busy, JobResult, Limits, SandboxError
from tool_servers.python_coder.sandbox.runner import Sandbox

FULL = "full"
_SECONDS = 60.0
"""For probes that should end by themselves, on a machine that is busy with other things."""
_SMALL = Limits(seconds=_SECONDS, memory_mb=128, processes=16, disk_mb=8, files=200)
_MARK = "AGENTFLOW_SELF_TEST"


@dataclass(frozen=True)
class Finding:
    """One thing a job could do that it must not."""

    probe: str
    detail: str

    def __str__(self) -> str:
        return f"{self.probe}: {self.detail}"


async def attack(sandbox: Sandbox) -> list[Finding]:
    """Run all probes and return what got through, nothing when the level ``full`` holds.

    Raises SandboxError when the sandbox does not even start.
    """
    await _starts(sandbox)
    with _bait() as bait:
        slots = asyncio.Semaphore(
            sandbox.jobs
        )  # a probe's deadline must not pass while it waits for a slot

        async def one_slot(probe: Awaitable[list[Finding]]) -> list[Finding]:
            async with slots:
                return await probe

        probes_to_run = (
            _escapes(sandbox, bait),
            _stopped(sandbox, "memory of a process", probes.MEMORY_ONE, _SMALL, "memory"),
            _stopped(sandbox, "memory of the job", probes.MEMORY_SPLIT, _SMALL, "memory"),
            _apart(sandbox),
            _stopped(sandbox, "output", probes.OUTPUT, replace(_SMALL, output_mb=1), "output"),
            _stopped(sandbox, "wall clock", probes.SLEEP, replace(_SMALL, seconds=2.0), "timeout"),
        )
        reports = await asyncio.gather(*map(one_slot, probes_to_run))
        if bait.reached():
            reports.append([Finding("network", "a job connected to a port of this machine")])
    return [finding for report in reports for finding in report]


def advice(reason: str, sysctls: Path = Path("/proc/sys")) -> str:
    """Which setting of this machine to change when bubblewrap fails with ``reason``."""
    for name, blocking, setting in (
        ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("user/max_user_namespaces", "0", "user.max_user_namespaces=10000"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ):
        try:
            value = (sysctls / name).read_text().strip()
        except OSError:
            continue
        if value == blocking and os.geteuid() != 0:
            return f"run `sysctl -w {setting}` as root"
    if os.geteuid() == 0:
        return (
            f"bubblewrap said {reason!r}; as root it needs CAP_SYS_ADMIN, CAP_NET_ADMIN,"
            " CAP_SYS_CHROOT, CAP_SYS_PTRACE, CAP_KILL, CAP_SETUID and CAP_SETGID, in a container"
            " also permission to mount (Docker: --cap-add SYS_ADMIN --cap-add NET_ADMIN --cap-add"
            " SYS_PTRACE --security-opt seccomp=unconfined --security-opt apparmor=unconfined)"
        )
    return (
        f"bubblewrap said {reason!r}; it needs user namespaces for ordinary users, in a"
        " container too"
    )


@dataclass
class _Bait:
    """What a job would find if it got out: a file, a variable, a listening port, an abstract
    socket.
    """

    secret: str
    file: Path
    port: socket.socket
    abstract: socket.socket

    def reached(self) -> bool:
        self.port.setblocking(False)
        try:
            self.port.accept()[0].close()
        except OSError:
            return False
        return True


@contextmanager
def _bait() -> Iterator[_Bait]:
    secret = secrets.token_hex(16)
    with (
        tempfile.TemporaryDirectory(prefix="sandbox-self-test-") as folder,
        socket.create_server(("127.0.0.1", 0)) as port,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        os.chmod(folder, 0o755)
        file = Path(folder, "secret")
        file.write_text(secret)
        file.chmod(0o644)
        abstract.bind(f"\0sandbox-self-test-{secret}")
        abstract.listen()
        os.environ[_MARK] = secret
        try:
            yield _Bait(secret, file, port, abstract)
        finally:
            del os.environ[_MARK]


async def _starts(sandbox: Sandbox) -> None:
    result = await sandbox.run("print('up')", limits=replace(sandbox.limits, seconds=_SECONDS))
    if (result.status, result.output) != ("ok", "up\n"):
        raise SandboxError(
            f"a program that prints one word ended with {result.status}: {result.output.strip()}"
        )


async def _escapes(sandbox: Sandbox, bait: _Bait) -> list[Finding]:
    program = probes.escapes(
        secret=bait.secret,
        file=str(bait.file),
        port=bait.port.getsockname()[1],
        abstract=f"\0sandbox-self-test-{bait.secret}",
        server=os.getpid(),
        processes=_SMALL.processes,
        disk_bytes=_SMALL.disk_mb << 20,
        files=_SMALL.files,
    )
    result = await sandbox.run(program, limits=_SMALL)
    report = _report(result)
    if report is None:
        return [
            Finding(
                "self-test", f"the probe ended with {result.status}: {result.output.strip()[-300:]}"
            )
        ]
    return [Finding(probe, detail) for probe, detail in report.items()]


def _report(result: JobResult) -> dict[str, str] | None:
    if result.status != "ok":
        return None
    try:
        report: dict[str, str] = json.loads(result.output.rstrip().rpartition("\n")[2])
    except ValueError:
        return None
    return report


async def _apart(sandbox: Sandbox) -> list[Finding]:
    """Two jobs, at once where there are two slots: neither finds anything of the other's."""
    pair = [sandbox.run(probes.apart(number), limits=_SMALL) for number in range(2)]
    results = await asyncio.gather(*pair) if sandbox.jobs > 1 else [await one for one in pair]
    seen = [
        result.output.strip() or result.status
        for result in results
        if result.status != "ok" or result.output
    ]
    return [Finding("jobs apart", text[-200:]) for text in seen]


async def _stopped(
    sandbox: Sandbox, probe: str, program: str, limits: Limits, expected: str
) -> list[Finding]:
    try:
        result = await sandbox.run(program, limits=limits)
    except Busy:  # the machine is busy: the time of the wall clock's probe was over before it began
        if 2 * limits.seconds > _SECONDS:
            raise
        return await _stopped(
            sandbox, probe, program, replace(limits, seconds=2 * limits.seconds), expected
        )
    if result.status == expected:
        return []
    return [
        Finding(
            probe,
            f"no limit held, the job ended with {result.status}: {result.output.strip()[-200:]}",
        )
    ]
