"""The tool ``wikipedia_search``."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
from mcp.server.context import ServerRequestContext
from mcp_types import CallToolResult
from pydantic import BaseModel, Field

from tool_servers.common import calls, options, serve
from tool_servers.common.fingerprint import compute_fingerprint
from tool_servers.common.passages import Index, Passage, show
from tool_servers.common.tool import OneTool
from tool_servers.common.upstream import Upstream
from tool_servers.wikipedia_search.corpus import load_corpus
from tool_servers.wikipedia_search.mediawiki import MediaWiki

NAME = "wikipedia_search"
NOTES = (
    "Words are matched as they are written, so name the person, place or thing and keep the query"
    " short. Returns the beginning of each matching passage; it does not answer questions itself."
)
LIVE_NOTES = (
    "Searches the live encyclopedia: name the person, place or thing and keep the query short. "
    "Returns the passages nearest the query; it does not answer questions itself."
)
LONGEST_QUERY = 2_000
API = "https://en.wikipedia.org/w/api.php"

log = logging.getLogger(__name__)
Search = Callable[[str, int, float], Awaitable[list[Passage]]]
"""Query, passages wanted, point on ``time.monotonic`` at which it is cancelled."""


class Arguments(BaseModel):
    """What a call takes."""

    query: str = Field(description="The words to look for.", max_length=LONGEST_QUERY)


def build(
    search: Search,
    k: int,
    passage_chars: int,
    timeout: float,
    concurrency: int,
    live: bool,
    fingerprint: str = "",
) -> OneTool:
    """The MCP server over a search. ``k`` passages a query, each cut to ``passage_chars``
    characters.
    """
    slots = anyio.CapacityLimiter(concurrency)

    async def call(asked: Arguments, context: ServerRequestContext[Any]) -> CallToolResult:
        async def work(end: float) -> str:
            return show(asked.query, await search(asked.query, k, end), passage_chars)

        return await calls.run(NAME, context, timeout, slots, work)

    notes = LIVE_NOTES if live else NOTES
    meta = calls.tool_meta(notes, cacheable=not live, fingerprint=fingerprint)
    return OneTool(
        NAME,
        f"Search Wikipedia passages by keyword and return the best {k}: to look up facts.",
        Arguments,
        call,
        meta,
    )


def local_search(passages: Sequence[Passage]) -> Search:
    """A search of a local corpus."""
    start = time.monotonic()
    index = Index(passages)
    log.info(
        "index built",
        extra={"passages": len(passages), "seconds": round(time.monotonic() - start, 3)},
    )

    async def search(query: str, k: int, end: float) -> list[Passage]:
        return await anyio.to_thread.run_sync(index.search, query, k, abandon_on_cancel=True)

    return search


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line entry. Exits with 2 and one line when an option or the corpus is wrong."""
    parser = options.parser(
        NAME, "Serve Wikipedia, a local corpus or live, as the MCP tool wikipedia_search."
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--corpus", type=Path, metavar="FILE", help='local: JSON lines with "title" and "text"'
    )
    source.add_argument(
        "--api",
        type=options.web_address,
        default=API,
        metavar="URL",
        help="live: a wiki's api.php (default: %(default)s)",
    )
    options.add_integer(parser, "--k", 1, 100, 3, "passages a query returns")
    options.add_integer(parser, "--passage-chars", 50, 100_000, 1_200, "characters shown of each")
    options.add_upstream(parser, concurrency=8)
    given = parser.parse_args(arguments)
    serve.start(NAME, given, lambda: _ready(given))


def _ready(given: argparse.Namespace) -> serve.Ready:
    upstream = Upstream("mediawiki", given.max_reply_bytes, given.user_agent)
    passages: list[Passage] = []
    search: Search = MediaWiki(given.api, upstream).search
    source = given.api
    if given.corpus:
        passages = load_corpus(given.corpus)
        search = local_search(passages)
        source = "corpus"
    fingerprint = compute_fingerprint(NAME, given, ("bm25s",), passages)
    mcp = build(
        search,
        given.k,
        given.passage_chars,
        given.timeout,
        given.concurrency,
        not passages,
        fingerprint,
    )
    return serve.Ready(mcp, {"source": source}, upstream.close)
