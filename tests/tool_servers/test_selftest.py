"""The self-test must notice a sandbox that was made weaker, whatever was taken away."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tool_servers.python_coder import bubblewrap, process, seccomp, selftest
from tool_servers.python_coder.limits import Limits, SandboxError
from tool_servers.python_coder.sandbox import Sandbox, claim_uids

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's jobs have no user id of their own to lose")


@pytest.fixture
def sandbox():
    if os.geteuid() != 0:
        yield Sandbox(bubblewrap.find(), Limits(), jobs=4)
        return
    uids, claim = claim_uids(4)
    with claim:
        yield Sandbox(bubblewrap.find(), Limits(), jobs=4, uids=uids)


async def probes_of(sandbox: Sandbox) -> set[str]:
    return {finding.probe for finding in await selftest.attack(sandbox)}


async def test_nothing_gets_through_the_real_sandbox(sandbox: Sandbox) -> None:
    assert await selftest.attack(sandbox) == []


async def test_one_slot_is_enough_for_the_self_test(sandbox: Sandbox) -> None:
    one = Sandbox(sandbox.box, sandbox.limits, jobs=1, uids=sandbox.uids)
    assert await selftest.attack(one) == []


def without(word: str) -> Callable[[Sandbox], None]:
    def weaken(sandbox: Sandbox) -> None:
        assert word in sandbox.box.arguments
        sandbox.box = replace(sandbox.box, arguments=tuple(w for w in sandbox.box.arguments if w != word))

    return weaken


def without_limit(name: str) -> Callable[[Sandbox], None]:
    def weaken(sandbox: Sandbox) -> None:
        lines = sandbox._launcher.splitlines()
        kept = [line for line in lines if not line.startswith(f"        (resource.{name},")]
        assert len(kept) == len(lines) - 1
        sandbox._launcher = "\n".join(kept)

    return weaken


def with_mount(*words: str) -> Callable[[Sandbox], None]:
    def weaken(sandbox: Sandbox) -> None:
        sandbox.box = replace(sandbox.box, mounts=(*sandbox.box.mounts, *words))

    return weaken


@pytest.mark.parametrize(
    ("weaken", "probe"),
    [
        pytest.param(without("--unshare-net"), "network", id="network shared"),
        pytest.param(without_limit("RLIMIT_NPROC"), "number of processes", id="processes not limited"),
        pytest.param(without_limit("RLIMIT_AS"), "memory of a process", id="address space not limited"),
        pytest.param(with_mount("--ro-bind", "/etc", "/etc"), "secrets", id="host's /etc visible"),
    ],
)
async def test_weaker_surroundings_are_noticed(sandbox: Sandbox, weaken: Callable[[Sandbox], None], probe: str) -> None:
    weaken(sandbox)
    assert probe in await probes_of(sandbox)


async def test_writable_folder_of_the_host_is_noticed(sandbox: Sandbox, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with_mount("--bind", str(tmp_path), "/etc")(sandbox)
    assert "read-only file system" in await probes_of(sandbox)


async def test_missing_system_call_filter_is_noticed(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "program", lambda: struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF_0000))
    assert {"tracing", "kernel keys"} & await probes_of(sandbox)


async def test_missing_memory_watch_is_noticed(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "over", lambda root, limits: None)
    monkeypatch.setattr(selftest, "_SMALL", replace(selftest._SMALL, seconds=2.0))
    assert {"memory of the job", "number of files"} <= await probes_of(sandbox)


@as_root
async def test_jobs_as_root_are_noticed(sandbox: Sandbox) -> None:
    sandbox.uids = None
    assert {"identity", "number of processes"} <= await probes_of(sandbox)


async def test_sandbox_that_does_not_start_says_why(sandbox: Sandbox) -> None:
    sandbox.box = replace(sandbox.box, mounts=("--ro-bind", "/not/there", "/x"))
    with pytest.raises(SandboxError, match="/not/there"):
        await selftest.attack(sandbox)


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=10000"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
def test_ordinary_user_is_told_which_setting_is_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, says: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    file = tmp_path / setting
    file.parent.mkdir()
    file.write_text(value + "\n")
    assert says in selftest.advice("No permissions to create a new namespace", tmp_path)


def test_root_is_told_which_rights_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "CAP_SYS_ADMIN" in selftest.advice("Operation not permitted", tmp_path)
