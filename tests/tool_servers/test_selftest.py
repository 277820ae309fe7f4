"""The self-test and the attacks must notice a sandbox that was made weaker, whatever was taken
away.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tool_servers.sandbox_attacks import ATTACKS, LIMITS, as_expected
from tests.tool_servers.server_processes import Bait
from tests.tool_servers.weakened import FITTING, Weakening
from tool_servers.python_coder.sandbox import bubblewrap, selftest
from tool_servers.python_coder.sandbox.job import Job
from tool_servers.python_coder.sandbox.limits import Limits, SandboxError
from tool_servers.python_coder.sandbox.runner import Sandbox
from tool_servers.python_coder.sandbox.slots import claim_uids


@pytest.fixture(scope="module")
def uids() -> Iterator[range | None]:
    if os.geteuid() != 0:
        yield None
        return
    uids, claim = claim_uids(8)
    with claim:
        yield uids


@asynccontextmanager
async def started(
    box: bubblewrap.Bubblewrap, uids: range | None, jobs: int = 4
) -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(box, Limits(), jobs, uids, preload=())
    try:
        yield sandbox
    finally:
        await sandbox.close()


@pytest.mark.parametrize("jobs", [1, 4])
async def test_nothing_gets_through_the_real_sandbox(uids: range | None, jobs: int) -> None:
    async with started(bubblewrap.find(), uids, jobs) as sandbox:
        assert await selftest.attack(sandbox) == []


@pytest.mark.parametrize("weakening", FITTING, ids=lambda weakening: weakening.name)
async def test_weaker_sandbox_is_noticed(
    uids: range | None,
    bait: Bait,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weakening: Weakening,
) -> None:
    monkeypatch.setattr(selftest, "_SMALL", replace(selftest._SMALL, seconds=30.0))
    chosen = [attack for attack in ATTACKS if attack.name in weakening.attacks]
    assert len(chosen) == len(weakening.attacks)
    async with started(weakening.box(tmp_path), uids) as sandbox:
        assert weakening.probe in {finding.probe for finding in await selftest.attack(sandbox)}
        for attack in chosen:
            pair = [
                sandbox.run(
                    bait.names() + attack.program,
                    limits=replace(LIMITS, seconds=min(attack.seconds, 5.0)),
                )
                for _ in range(2)  # at once: some only see each other
            ]
            assert not all(as_expected(attack, result) for result in await asyncio.gather(*pair)), (
                attack.name
            )
    while bait.reached():
        pass


async def test_a_busy_machine_is_no_weak_sandbox(
    uids: range | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe of the wall clock has two seconds; a sandbox that comes later than that has still
    to prove itself.
    """
    fork, late = Sandbox.fork, []

    async def slow(self: Sandbox, limits: Limits, *more: object) -> Job:
        if limits.seconds < 6:
            late.append(limits.seconds)
            await asyncio.sleep(limits.seconds)
        return await fork(self, limits, *more)

    monkeypatch.setattr(Sandbox, "fork", slow)
    async with started(bubblewrap.find(), uids) as sandbox:
        assert await selftest.attack(sandbox) == []
    assert late == [2.0, 4.0]


async def test_sandbox_that_does_not_start_says_why(uids: range | None) -> None:
    async with started(
        replace(bubblewrap.find(), mounts=("--ro-bind", "/not/there", "/x")), uids
    ) as sandbox:
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


def test_root_is_told_which_rights_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "CAP_SYS_ADMIN" in selftest.advice("Operation not permitted", tmp_path)
