"""A limited number of slots, and, as root, a user id of the host for each."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Iterable

import anyio

from tool_servers.python_coder.sandbox.limits import Busy, SandboxError

FIRST_UID = 1_879_048_192
"""Start of the user ids that systemd's list (UIDS-GIDS.md) leaves unused."""
FIRST_UID_16_BIT = 40_000
"""The same where a container maps only 16 bits."""
UIDS_PER_SERVER = 1_536


class Slots:
    """Numbered slots, taken in the order in which callers came. The slot that has been free for
    longest is taken first.
    """

    def __init__(self, slots: Iterable[int]) -> None:
        self._free = deque(slots)
        self.count = len(self._free)
        self._available = anyio.Semaphore(self.count, fast_acquire=True)

    async def take(self, deadline: float) -> int:
        """Wait for a free slot until ``deadline`` on ``time.monotonic``. Raises Busy."""
        try:
            self._available.acquire_nowait()  # one that is free is taken even after the deadline
        except anyio.WouldBlock:
            try:
                with anyio.fail_after(max(0.0, deadline - time.monotonic())):
                    await self._available.acquire()
            except TimeoutError:
                raise Busy(
                    f"all {self.count} slots were busy until the deadline;"
                    " the program was not started"
                ) from None
        return self._free.popleft()

    def give(self, slot: int) -> None:
        """Give a slot back."""
        self._free.append(slot)
        self._available.release()


def claim_uids(count: int) -> tuple[range, socket.socket]:
    """``count`` host user ids that no other sandbox server of this machine uses, while the returned
    socket is open.

    Resource limits count by user id: two jobs with the same one could starve each other.
    Raises SandboxError when there are none left.
    """
    first = FIRST_UID if _is_mapped(FIRST_UID + 64 * UIDS_PER_SERVER) else FIRST_UID_16_BIT
    for block in range(16):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        start = first + block * UIDS_PER_SERVER
        try:
            # an abstract socket: the kernel frees its name when this process ends, however it does
            claim.bind(f"\0agentflow-sandbox-uids-{start}")
        except OSError:
            claim.close()
            continue
        return range(start, start + count), claim
    raise SandboxError(
        "16 sandbox servers run on this machine already, no user ids are left for another"
    )


def _is_mapped(uid: int) -> bool:
    """Whether the user id exists in this user namespace."""
    with open("/proc/self/uid_map") as lines:
        for line in lines:
            inside, _, length = map(int, line.split())
            if inside <= uid < inside + length:
                return True
    return False
