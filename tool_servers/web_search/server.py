"""The tool ``web_search``."""

from __future__ import annotations

import argparse
import ipaddress
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import anyio
from mcp.server.context import ServerRequestContext
from mcp_types import CallToolResult
from pydantic import BaseModel, Field

from tool_servers.common import calls, options, serve
from tool_servers.common.fingerprint import compute_fingerprint
from tool_servers.common.text import cut
from tool_servers.common.tool import OneTool
from tool_servers.web_search.addresses import Addresses
from tool_servers.web_search.fetch import Fetched, Fetcher
from tool_servers.web_search.page import Extraction, Page, Reader

NAME = "web_search"
NOTES = (
    "Reads one page, whose full address must be known: from the question, or found by a search"
    " tool. Returns the passages that share words with the query, not the whole page, so say in the"
    " query what to look for. Pages made by scripts, behind a login, or of private networks cannot"
    " be read."
)
LONGEST_QUERY, LONGEST_URL = 2_000, 4_000
LONGEST_SHOWN_URL = 500
EXTRACTION_S = 5.0
"""Longest extraction of one page's text, so that no page holds a process for a whole call."""
FETCH_SHARE = 0.7
"""Share of a call's time in which its page must have arrived."""


@dataclass(frozen=True)
class WebSearch:
    """Fetches and reads pages, and shows ``k`` passages of at most ``passage_chars`` characters.

    ``fetch_s``: seconds that a page may take to arrive. They are fewer than a call's: a page that
    hangs is the page's failure, told to the model, and not one of this server.
    """

    fetcher: Fetcher
    reader: Reader
    k: int
    passage_chars: int
    fetch_s: float

    async def find(self, query: str, url: str, end: float) -> str:
        """Raises ToolError for a page that cannot be had."""
        got = await self.fetcher.fetch(url, self.fetch_s)
        wanted = Extraction(got.body, got.kind, got.charset, query, self.k, self.passage_chars)
        page = await self.reader.read(wanted, min(EXTRACTION_S, end - time.monotonic()))
        return show(got, page)

    async def close(self) -> None:
        await self.fetcher.close()
        await self.reader.close()


class Arguments(BaseModel):
    """What a call takes."""

    query: str = Field(
        description="What to look for on the page.", min_length=1, max_length=LONGEST_QUERY
    )
    url: str = Field(
        description="The page's address, with http:// or https://.", max_length=LONGEST_URL
    )


def build(search: WebSearch, timeout: float, concurrency: int, fingerprint: str = "") -> OneTool:
    """The MCP server over a fetcher and a reader of pages."""
    slots = anyio.CapacityLimiter(concurrency)

    async def call(asked: Arguments, context: ServerRequestContext[Any]) -> CallToolResult:
        return await calls.run(
            NAME, context, timeout, slots, lambda end: search.find(asked.query, asked.url, end)
        )

    meta = calls.tool_meta(NOTES, cacheable=False, fingerprint=fingerprint)
    return OneTool(
        NAME,
        f"Fetch a web page and return its {search.k} passages nearest a query.",
        Arguments,
        call,
        meta,
    )


def show(got: Fetched, page: Page) -> str:
    """Title and address, then the passages, numbered, the nearest first."""
    blocks = [f"{page.title}\n{cut(got.url, LONGEST_SHOWN_URL)}".strip()]
    for number, passage in enumerate(page.passages, start=1):
        blocks.append(f"[{number}] {passage.text}")
    if not page.passages:
        blocks.append("[the page has no text that could be read]")
    if got.was_cut:
        blocks.append(f"[... only the first {len(got.body)} bytes of the page were read]")
    return "\n\n".join(blocks)


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """An argparse type: a network such as 10.1.0.0/16."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line entry. Exits with 2 and one line when an option is wrong."""
    parser = options.parser(
        NAME, "Serve the fetching of web pages as the MCP tool web_search.", timeout=20.0
    )
    options.add_integer(parser, "--k", 1, 100, 5, "passages a page returns")
    options.add_integer(parser, "--passage-chars", 50, 100_000, 800, "longest passage")
    options.add_integer(parser, "--redirects", 0, 20, 5, "most redirects of a page")
    parser.add_argument(
        "--allow-net",
        type=network,
        action="append",
        default=[],
        metavar="CIDR",
        help="a network that may be fetched from although it is not public; may be repeated",
    )
    options.add_integer(
        parser, "--readers", 1, 256, len(os.sched_getaffinity(0)), "processes that extract text"
    )
    options.add_integer(parser, "--reader-memory-mb", 512, 1 << 20, 2_048, "address space of each")
    options.add_upstream(parser, concurrency=32)
    given = parser.parse_args(arguments)
    serve.start(NAME, given, lambda: _ready(given))


def _ready(given: argparse.Namespace) -> serve.Ready:
    addresses = Addresses(tuple(given.allow_net))
    fetcher = Fetcher(addresses, given.max_reply_bytes, given.redirects, given.user_agent)
    reader = Reader(given.readers, given.reader_memory_mb)
    reader.check()
    fetch_s = FETCH_SHARE * given.timeout
    search = WebSearch(fetcher, reader, given.k, given.passage_chars, fetch_s)
    fingerprint = compute_fingerprint(NAME, given, ("bm25s", "trafilatura", "webencodings"))
    mcp = build(search, given.timeout, given.concurrency, fingerprint)
    return serve.Ready(mcp, {}, search.close)
