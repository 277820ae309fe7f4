"""The tool ``google_search``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import anyio
from mcp.server.context import ServerRequestContext
from mcp_types import CallToolResult
from pydantic import BaseModel, Field

from tool_servers.common import calls, options, serve
from tool_servers.common.fingerprint import compute_fingerprint
from tool_servers.common.text import cut
from tool_servers.common.tool import OneTool
from tool_servers.common.upstream import Rejected, Upstream
from tool_servers.google_search.engines import ENGINES, Engine, Found, Incomplete, Query

NAME = "google_search"
NOTES = (
    "Searches the live web and returns titles, addresses and short snippets, not whole pages. "
    "Keep the query short and specific, one question at a time; results differ from day to day. "
    "To read a page it finds, give the address to a tool that fetches pages, if there is one."
)
LONGEST_QUERY = 2_000
MODEL = "gemini-2.5-flash"


@dataclass(frozen=True)
class Search:
    """One engine with its keys, asked for ``k`` results. Hits on ``left_out`` sites are never
    shown.
    """

    engine: Engine
    upstream: Upstream
    base_url: str
    keys: tuple[str, ...] = field(repr=False)
    k: int
    model: str = MODEL
    left_out: tuple[str, ...] = ()

    async def find(self, query: str, end: float) -> Found:
        """Raises ServiceError where the engine fails; that it finds nothing is no failure."""
        request = self.engine.build_request(
            Query(query, min(self.k, self.engine.most), self.base_url, self.keys, self.model)
        )
        name = self.upstream.name
        try:
            found = self.engine.parse_reply(await self.upstream.ask(request, end))
        except Rejected as refused:
            raise calls.ServiceError(f"{name} refused the request: {refused}") from None
        except Incomplete as incomplete:
            raise calls.ServiceError(f"{name} could not search: {incomplete}") from None
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise calls.ServiceError(f"{name} answered in another format: {error!r:.200}") from None
        shown = [hit for hit in found.hits if not self._is_left_out(hit.url)]
        return Found(tuple(shown[: self.k]), found.answer)

    def _is_left_out(self, url: str) -> bool:
        try:
            host = f".{urlsplit(url).hostname or ''}"
        except ValueError:  # an engine's result whose address is none
            return bool(self.left_out)
        return any(host.endswith(f".{site}") for site in self.left_out)


class Arguments(BaseModel):
    """What a call takes."""

    query: str = Field(description="What to search for.", min_length=1, max_length=LONGEST_QUERY)


def build(
    search: Search, snippet_chars: int, timeout: float, concurrency: int, fingerprint: str = ""
) -> OneTool:
    """The MCP server over a search engine."""
    slots = anyio.CapacityLimiter(concurrency)

    async def call(asked: Arguments, context: ServerRequestContext[Any]) -> CallToolResult:
        async def work(end: float) -> str:
            return show(asked.query, await search.find(asked.query, end), snippet_chars)

        return await calls.run(NAME, context, timeout, slots, work)

    meta = calls.tool_meta(NOTES, cacheable=False, fingerprint=fingerprint)
    return OneTool(
        NAME, f"Search the web and return up to {search.k} results.", Arguments, call, meta
    )


def show(query: str, found: Found, snippet_chars: int) -> str:
    """The engine's own answer, if any, then the hits, numbered, each snippet cut with a visible
    mark.
    """
    if not found.answer and not found.hits:
        return f"No result for {query!r}. Try other or fewer words."
    blocks = []
    if found.answer:
        blocks.append(f"Answer: {cut(found.answer, 4 * snippet_chars)}")
    for number, hit in enumerate(found.hits, start=1):
        blocks.append(f"[{number}] {hit.title}\n{hit.url}\n{cut(hit.text, snippet_chars)}".rstrip())
    return "\n\n".join(blocks)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line entry. Exits with 2 and one line when an option is wrong or a key is missing."""
    parser = options.parser(
        NAME, "Serve a web search engine as the MCP tool google_search.", timeout=20.0
    )
    parser.add_argument(
        "--engine",
        choices=list(ENGINES),
        default="gemini",
        help="whose API is asked; its keys come from the environment (default: %(default)s)",
    )
    parser.add_argument(
        "--base-url",
        type=options.web_address,
        metavar="URL",
        help="where the API is (default: the engine's own)",
    )
    parser.add_argument(
        "--model", default=MODEL, help="of the engine gemini (default: %(default)s)"
    )
    options.add_integer(parser, "--k", 1, 20, 5, "results a query returns")
    options.add_integer(
        parser,
        "--snippet-chars",
        50,
        100_000,
        500,
        "characters shown of a snippet, four times as many of an engine's own answer",
    )
    parser.add_argument(
        "--leave-out",
        action="append",
        default=[],
        metavar="SITE",
        type=str.lower,
        help=(
            "never show results of this site and those below it, such as one that holds a"
            " benchmark; may be repeated"
        ),
    )
    options.add_upstream(parser, concurrency=16)
    given = parser.parse_args(arguments)
    engine = ENGINES[given.engine]
    base_url = given.base_url or engine.base_url
    if base_url is None:
        parser.error(f"--engine {given.engine} needs --base-url")
    if given.leave_out and given.engine == "gemini":
        parser.error(
            "--leave-out cannot be kept with --engine gemini: its answer is made of all sites"
            " it saw"
        )
    serve.start(NAME, given, lambda: _ready(given, engine, base_url))


def _ready(given: argparse.Namespace, engine: Engine, base_url: str) -> serve.Ready:
    keys = tuple(map(options.secret, engine.keys))
    upstream = Upstream(given.engine, given.max_reply_bytes, given.user_agent, keys)
    search = Search(engine, upstream, base_url, keys, given.k, given.model, tuple(given.leave_out))
    fingerprint = compute_fingerprint(NAME, given)
    mcp = build(search, given.snippet_chars, given.timeout, given.concurrency, fingerprint)
    return serve.Ready(mcp, {"engine": given.engine}, upstream.close)
