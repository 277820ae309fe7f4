"""The server started by root as an ordinary user, in a mount namespace that lets that user read
interpreter and checkout.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError

from tests.tool_servers.published_attacks import PUBLISHED
from tests.tool_servers.sandbox_attacks import ATTACKS, MARK, as_expected
from tests.tool_servers.server_processes import ROOT, Bait, Running, command
from tool_servers.common import calls
from tool_servers.python_coder.sandbox.limits import JobResult

USER = 12345
# root's home is opened up for the server alone: the interpreter may live there
AS_USER = f"""
set -e
mount -t tmpfs -o mode=755 tmpfs /mnt; mkdir /mnt/root; mount --rbind /root /mnt/root
mount -t tmpfs -o mode=755 tmpfs /root
cd /mnt/root; for name in .[!.]* *; do
    if [ -d "$name" ]; then mkdir "/root/$name"; mount --rbind "$name" "/root/$name"; fi
done; cd "$OLDPWD"
exec setpriv --reuid {USER} --regid {USER} --clear-groups "$@"
"""

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="the other tests ran as an ordinary user already"),
    pytest.mark.skipif(
        not (shutil.which("setpriv") and shutil.which("unshare")),
        reason="needs setpriv and unshare of util-linux",
    ),
]


def as_user(line: list[str]) -> list[str]:
    return [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "bash",
        "-c",
        AS_USER,
        "as-user",
        *line,
    ]


@pytest.fixture(scope="module", autouse=True)
def readable() -> None:
    line = as_user([sys.executable, "-c", "import tool_servers.python_coder.server"])
    tried = subprocess.run(line, cwd=ROOT, capture_output=True)
    if tried.returncode:
        pytest.skip(
            f"another user cannot run this interpreter and checkout: {tried.stderr.decode()[-200:]}"
        )


async def test_all_attacks(launch: Callable[..., Running], bait: Bait) -> None:
    line = as_user(command("python_coder", "--timeout", "60", "--memory-mb", "160", "--jobs", "4"))
    running = launch(line, env={**os.environ, MARK: "seen", "HOME": "/tmp"})
    assert Path(f"/proc/{running.pid}").stat().st_uid == USER
    slots = asyncio.Semaphore(4)

    async def attack(client: Client, program: str, seconds: float) -> JobResult:
        async with slots:
            for tries in range(10):
                try:
                    done = await client.call_tool(
                        "python_coder", {"code": program}, meta={calls.REMAINING_S: seconds}
                    )
                    break
                except MCPError as error:
                    # the slot of the one before is not free yet, and this one's second is over
                    assert (
                        "slots were busy" in error.message
                        or "no sandbox was ready" in error.message
                    ), error
                    assert tries < 9, error
        return JobResult("error" if done.is_error else "ok", done.content[0].text, 0.0)

    # limits that the command line does not set are larger there, and their attacks end otherwise
    chosen = [
        attack
        for attack in [*ATTACKS, *PUBLISHED]
        if not re.search("fill|flood|100 MB|disk|endless line|file system", attack.name)
    ]
    async with Client(f"{running.url}/mcp") as client:
        results = await asyncio.gather(
            *(attack(client, bait.names() + a.program, a.seconds) for a in chosen)
        )
    # on the wire, every failure of a program is one kind
    wrong = {
        a.name: result
        for a, result in zip(chosen, results)
        if not as_expected(a, result)
        and (a.status == "ok" or result.status == "ok" or a.says not in result.output)
    }
    assert not wrong
    assert not bait.reached()


def test_missing_user_namespaces_are_refused_and_the_setting_is_named() -> None:
    script = (
        "echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --inh-caps=-all"
        ' --ambient-caps=-all "$@"'
    )
    user = ["unshare", "--user", f"--map-user={USER}", f"--map-group={USER}", "--keep-caps"]
    line = [*user, "bash", "-c", script, "as-user", *command("python_coder")]
    ended = subprocess.run(
        line, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.splitlines()[
        -1
    ] == (  # asyncio may warn before of a child that ended too quickly for it
        "python_coder: isolation full was not reached, the sandbox does not start: "
        "run `sysctl -w user.max_user_namespaces=10000` as root"
    )
