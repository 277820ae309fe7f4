"""A limited number of places, and, as root, a user id of the host for each."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterable

from tool_servers.python_coder.sandbox.limits import Busy, SandboxError

FIRST_UID = 1_879_048_192
"""Start of the user ids that systemd's list (UIDS-GIDS.md) leaves unused."""
FIRST_UID_OF_FEW = 40_000
"""The same where a container maps only 16 bits."""
MOST = 1_536
"""User ids of a server."""


class Slots:
    """The slots that are free; the one given back first is taken first."""

    def __init__(self, slots: Iterable[int]) -> None:
        self._free: asyncio.Queue[int] = asyncio.Queue()
        for slot in slots:
            self._free.put_nowait(slot)
        self.count = self._free.qsize()

    async def take(self, deadline: float) -> int:
        """Wait for a free one until ``deadline`` on ``time.monotonic``. Raises Busy."""
        with contextlib.suppress(asyncio.QueueEmpty):
            return self._free.get_nowait()
        waiter = asyncio.ensure_future(self._free.get())
        try:
            await asyncio.wait({waiter}, timeout=max(0.0, deadline - time.monotonic()))
        except asyncio.CancelledError:
            if waiter.done():
                self.give(waiter.result())
            waiter.cancel()
            raise
        if waiter.done():
            return waiter.result()
        waiter.cancel()
        raise Busy(
            f"all {self.count} slots were busy until the deadline; the program was not started"
        )

    def give(self, slot: int) -> None:
        self._free.put_nowait(slot)


def claim_uids(count: int) -> tuple[range, socket.socket]:
    """``count`` host user ids that no other sandbox server of this machine uses, while the returned
    socket is open.

    Resource limits count by user id: two jobs with the same one could starve each other.
    Raises SandboxError when there are none left.
    """
    first = FIRST_UID if _mapped(FIRST_UID + 64 * MOST) else FIRST_UID_OF_FEW
    for block in range(16):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        start = first + block * MOST
        try:
            claim.bind(
                f"\0agentflow-sandbox-uids-{start}"
            )  # gone with this process, however it ends
        except OSError:
            claim.close()
            continue
        return range(start, start + count), claim
    raise SandboxError(
        "16 sandbox servers run on this machine already, no user ids are left for another"
    )


def _mapped(uid: int) -> bool:
    with open("/proc/self/uid_map") as lines:
        ranges = [tuple(map(int, line.split())) for line in lines]
    return any(inside <= uid < inside + length for inside, _, length in ranges)
