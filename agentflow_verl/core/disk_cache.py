"""Results of pure tools on disk, for every process that shares the folder.

One file per entry, written aside and renamed into place: readers and writers need no lock, on a
network file system either. The first line is a digest of the rest; an entry that does not match it
is a miss and is removed. A cache never fails a call: a disk that is slow, full or gone makes it a
miss, and is said once in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import logging
import math
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from agentflow_verl.core.deadline import Deadline
from agentflow_verl.core.errors import ConfigError

MAX_BYTES = 2 * 1024**3
PATIENCE_S = 0.5  # a slower disk is no help
_MAX_UNWRITTEN = 1000
_ABANDONED_S = 3600.0
_FORMAT = 1

logger = logging.getLogger(__name__)


def digest_of(key: Mapping[str, Any]) -> str:
    """The name of an entry: a digest of everything that shapes the answer, as JSON values."""
    text = json.dumps([_FORMAT, key], sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class ResultCache:
    """One folder. Over ``MAX_BYTES`` the entries written first are dropped.

    Raises ``ConfigError`` if the folder cannot be made or written to. All reading and writing
    happens on one thread.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._drafts = itertools.count()
        # Bytes written since the last sweep; infinite where this process has not swept yet.
        self._since_sweep: float = math.inf
        self._unwritten: set[asyncio.Future[None]] = set()
        self._complained = False
        # Written to once, so that a wrong folder is an error now and not a warning in the run.
        try:
            folder.mkdir(parents=True, exist_ok=True)
            draft = self._draft()
            draft.touch()
            draft.unlink()
        except OSError as error:
            raise ConfigError(f"cache_dir {folder} cannot be used: {error}") from None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tool-cache")

    async def get(self, digest: str, deadline: Deadline) -> str | None:
        """The text kept under a digest. ``None`` if there is none, or not within half a second."""
        reading = asyncio.get_running_loop().run_in_executor(self._thread, self._read, digest)
        done, _ = await asyncio.wait([reading], timeout=deadline.within(PATIENCE_S).remaining())
        if not done:
            return None
        return reading.result()

    def put(self, digest: str, text: str) -> None:
        """Keep a text; returns at once. Nothing is kept while the disk is a thousand entries
        behind.
        """
        if len(self._unwritten) < _MAX_UNWRITTEN:
            writing = asyncio.get_running_loop().run_in_executor(
                self._thread, self._write, digest, text
            )
            self._unwritten.add(writing)
            writing.add_done_callback(self._unwritten.discard)

    async def close(self) -> None:
        """Wait a second for what is not written yet."""
        if self._unwritten:
            await asyncio.wait(self._unwritten, timeout=1.0)
        self._thread.shutdown(wait=not self._unwritten, cancel_futures=True)

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest

    def _draft(self) -> Path:
        return (
            self._folder
            / f"{os.uname().nodename}-{os.getpid()}-{id(self)}-{next(self._drafts)}.draft"
        )

    def _read(self, digest: str) -> str | None:
        path = self._path(digest)
        try:
            seal, _, body = path.read_bytes().partition(b"\n")
            if seal == _seal(digest, body):
                return body.decode()
            logger.warning("cache entry %s is damaged and was removed", path)
            path.unlink(missing_ok=True)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            self._complain(error)
        return None

    def _write(self, digest: str, text: str) -> None:
        draft, path = self._draft(), self._path(digest)
        try:
            body = text.encode()
            if self._since_sweep > MAX_BYTES // 32:
                self._sweep()
            path.parent.mkdir(exist_ok=True)
            draft.write_bytes(_seal(digest, body) + b"\n" + body)
            draft.replace(path)
            self._since_sweep += len(body)
        except (OSError, ValueError) as error:  # half a surrogate pair is a ValueError
            self._complain(error)
            draft.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Drop the oldest entries until a fifth is free, and what killed processes left
        half-written.
        """
        self._since_sweep = 0
        entries = []
        for folder in os.scandir(self._folder):
            if folder.is_dir():
                for entry in os.scandir(folder):
                    entries.append((entry.stat(), entry))
        # Blocks, not sizes: what counts is what the files take up on the disk.
        total = sum(stat.st_blocks * 512 for stat, _ in entries)
        if total > MAX_BYTES:
            for stat, entry in sorted(entries, key=lambda pair: pair[0].st_mtime):
                Path(entry.path).unlink(missing_ok=True)
                total -= stat.st_blocks * 512
                if total <= MAX_BYTES * 0.8:
                    break
        for draft in self._folder.glob("*.draft"):
            # Its writer may rename it at any moment: that one is not abandoned.
            with contextlib.suppress(FileNotFoundError):
                if time.time() - draft.stat().st_mtime > _ABANDONED_S:
                    draft.unlink()

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            logger.warning(
                "the tool cache in %s does not work; calls go on without it: %s",
                self._folder,
                error,
            )


def _seal(digest: str, body: bytes) -> bytes:
    return hashlib.sha256(digest.encode() + body).hexdigest().encode()
