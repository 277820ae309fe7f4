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
from tool_servers.common.text import cut

PAGES_PER_PROCESS = 1_000
"""A process is replaced after so many, whatever memory it may have leaked."""
START_S = 60.0
TITLE_CHARS = 300
_FEEDS = frozenset({"rss", "feed", "rdf", "urlset", "sitemapindex", "opml"})
"""Root elements of XML documents that are also sent as HTML or plain text."""


class CannotExtract(WrongInput):
    """Pages cannot be read on this machine. The message says why."""


@dataclass(frozen=True)
class Extraction:
    """What is to be read: a body of the media type ``kind``, and how.

    ``charset``: what the HTTP header says, None where it says nothing. The result has at most ``k``
    passages of at most ``chars`` characters each.
    """

    body: bytes
    kind: str
    charset: str | None
    query: str
    k: int
    chars: int


@dataclass(frozen=True)
class Page:
    """What was read: the title, an empty text where there is none, and the passages, the nearest
    first.
    """

    title: str
    passages: tuple[Passage, ...]


class Reader:
    """``processes`` that read pages, each with at most ``memory_mb`` MiB of address space."""

    def __init__(self, processes: int, memory_mb: int) -> None:
        self._processes = processes
        self._memory = memory_mb << 20
        self._pool = self._new_pool()

    def check(self) -> None:
        """Start the processes and read an empty page. Raises CannotExtract."""
        empty = Extraction(b"", "text/plain", None, "", 1, 100)
        try:
            self._pool.schedule(extract, args=(empty,)).result(START_S)
        except (RuntimeError, ProcessExpired, TooSlow, MemoryError, ImportError) as error:
            self._pool.stop()  # type: ignore[no-untyped-call]
            raise CannotExtract(f"the processes that read pages do not start: {error!r}") from None

    async def read(self, wanted: Extraction, seconds: float) -> Page:
        """Raises ToolError for a page that cannot be read within ``seconds``, ServiceError where
        the pool is broken.
        """
        job = self._pool.schedule(extract, args=(wanted,), timeout=max(0.01, seconds))
        try:
            return await asyncio.wrap_future(job)  # cancelling kills the process
        except (TooSlow, asyncio.TimeoutError):  # two names of one only since Python 3.11
            reason = "its text could not be extracted in time"
        except (MemoryError, RecursionError):
            reason = "it is too large or too deeply nested"
        except ProcessExpired:
            reason = "extracting its text ended the process that tried"
        except RuntimeError as error:  # pebble gives a pool up whose new processes fail at once
            self._pool = self._new_pool()
            raise ServiceError(f"pages cannot be read: {error}") from None
        except Exception as error:  # the parsers': a page can make them raise what it likes
            reason = f"{type(error).__name__} while its text was extracted"
        raise ToolError(f"The page was not read: {reason}.")

    async def close(self) -> None:
        """Kill the processes. A call still under way fails."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        await asyncio.to_thread(self._pool.join)

    def _new_pool(self) -> ProcessPool:
        return ProcessPool(
            max_workers=self._processes,
            max_tasks=PAGES_PER_PROCESS,
            initializer=_prepare,
            initargs=(self._memory,),
            context=multiprocessing.get_context("spawn"),
        )


def extract(wanted: Extraction) -> Page:
    """The page's title and its passages nearest the query. Raises what the parsers raise."""
    # a second of imports, paid in the pool's processes only
    from tool_servers.web_search.decode import decode
    from tool_servers.web_search.markup import readable_html, readable_xml, root_name

    is_html, is_xml = "html" in wanted.kind, "xml" in wanted.kind
    source = decode(wanted.body, wanted.charset, is_html or is_xml)
    if not is_xml and root_name(source) in _FEEDS and source.lstrip().startswith("<"):
        is_xml, is_html = True, False
    title, text = "", source
    if is_html:
        title, text = readable_html(source)
    elif is_xml:
        title, text = readable_xml(source)
    text = text.replace("\0", "")
    passages = nearest(split("", text, wanted.chars), wanted.query, wanted.k)
    return Page(cut(" ".join(title.split()), TITLE_CHARS), tuple(passages))


def _prepare(memory: int) -> None:
    """Run in each new process, before its first page."""
    lifetime.end_with_parent()
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    import bm25s  # noqa: F401

    from tool_servers.web_search import decode, markup  # noqa: F401
