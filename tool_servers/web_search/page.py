"""A page's text and its passages nearest a query.

Pages are hostile input and extraction is plain computation, so it runs in processes of its own
(pebble), each with a memory limit: one that is not done in time is killed and replaced, and nothing
of it is left running.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
from concurrent.futures import TimeoutError as TooSlow
from dataclasses import dataclass

from pebble import ProcessExpired, ProcessPool

from tool_servers.common import lifetime
from tool_servers.common.calls import ServiceError, ToolError
from tool_servers.common.options import WrongInput
from tool_servers.common.passages import Passage, nearest, split

PAGES_PER_PROCESS = 1_000
"""A process is replaced after so many, whatever it may have leaked."""
START_S = 60.0
_MARKUP = ("html", "xml")


class CannotRead(WrongInput):
    """Pages cannot be read on this machine. The message says why."""


@dataclass(frozen=True)
class Page:
    title: str
    passages: tuple[Passage, ...]


class Reader:
    """``processes`` that read pages, each with at most ``memory_mb`` MiB of address space."""

    def __init__(self, processes: int, memory_mb: int) -> None:
        self._processes = processes
        self._memory = memory_mb << 20
        self._pool = self._new()

    def check(self) -> None:
        """Start the processes and read an empty page. Raises CannotRead."""
        try:
            self._pool.schedule(read, args=(b"", "text/plain", None, "", 1, 100)).result(START_S)
        except (RuntimeError, ProcessExpired, TooSlow, MemoryError) as error:
            self._pool.stop()
            raise CannotRead(f"the processes that read pages do not start: {error!r}") from None

    async def read(
        self,
        body: bytes,
        kind: str,
        charset: str | None,
        query: str,
        k: int,
        chars: int,
        left: float,
    ) -> Page:
        """Raises ToolError for a page that cannot be read within ``left`` seconds, ServiceError where the
        pool is broken.
        """
        job = self._pool.schedule(
            read, args=(body, kind, charset, query, k, chars), timeout=max(0.01, left)
        )
        try:
            return await asyncio.wrap_future(job)  # cancelling kills the process
        except (TooSlow, asyncio.TimeoutError):  # two names of one only since Python 3.11
            raise ToolError(
                "The page was not read: its text could not be extracted in time."
            ) from None
        except (MemoryError, RecursionError):
            raise ToolError(
                "The page was not read: it is too large or too deeply nested."
            ) from None
        except ProcessExpired:
            raise ToolError(
                "The page was not read: extracting its text ended the process that tried."
            ) from None
        except RuntimeError as error:  # pebble gives a pool up whose new processes fail at once
            self._pool = self._new()
            raise ServiceError(f"pages cannot be read: {error}") from None
        except Exception as error:  # the parsers': a page can make them raise what it likes
            raise ToolError(
                f"The page was not read: {type(error).__name__} while its text was extracted."
            ) from None

    async def close(self) -> None:
        """Kill the processes. A call still under way fails."""
        self._pool.stop()
        await asyncio.to_thread(self._pool.join)

    def _new(self) -> ProcessPool:
        return ProcessPool(
            max_workers=self._processes,
            max_tasks=PAGES_PER_PROCESS,
            initializer=_prepare,
            initargs=(self._memory,),
            context=multiprocessing.get_context("spawn"),
        )


def read(body: bytes, kind: str, charset: str | None, query: str, k: int, chars: int) -> Page:
    """The page's title and its ``k`` passages nearest the query, each of at most ``chars``
    characters.
    """
    title, text = (
        _extract(body, charset)
        if any(word in kind for word in _MARKUP)
        else ("", _decode(body, charset))
    )
    return Page(title, tuple(nearest(split("", text, chars), query, k)))


def _extract(body: bytes, charset: str | None) -> tuple[str, str]:
    import trafilatura  # a second of imports, paid in the pool only

    source = _decode(body, charset) if charset else body
    found = trafilatura.bare_extraction(
        source, favor_recall=True, include_comments=False, with_metadata=True
    )
    title = (found.title or "") if found else ""
    return title, (found.text if found else "") or trafilatura.html2txt(source)


def _decode(body: bytes, charset: str | None) -> str:
    try:
        return body.decode(charset or "utf-8", "replace")
    except (
        LookupError,
        ValueError,
    ):  # no such encoding, one that is none of text, one that replaces nothing
        return body.decode("utf-8", "replace")


def _prepare(memory: int) -> None:
    lifetime.end_with_parent()
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    import bm25s  # noqa: F401
    import trafilatura  # noqa: F401
