"""The tool ``wikipedia_search``."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import CallToolResult
from pydantic import Field

from tool_servers.common import calls, lifetime, logs, options, serve
from tool_servers.wikipedia_search.corpus import CorpusError, Passage, read
from tool_servers.wikipedia_search.index import Index

NAME = "wikipedia_search"
NOTES = (
    "Words are matched as they are written, so name the person, place or thing and keep the query short. "
    "Returns the beginning of each matching passage; it does not answer questions itself."
)
LONGEST_QUERY = 2_000

log = logging.getLogger("tool_servers.wikipedia_search")


def build(index: Index, k: int, passage_chars: int, timeout: float) -> MCPServer:
    """The MCP server over an index. ``k`` passages a query, each cut to ``passage_chars`` characters."""
    mcp = MCPServer(NAME)

    async def wikipedia_search(
        query: Annotated[str, Field(description="The words to look for.", max_length=LONGEST_QUERY)], context: Context
    ) -> CallToolResult:
        start = time.monotonic()
        left = calls.deadline(context, timeout) - time.monotonic()
        try:
            found = await asyncio.wait_for(asyncio.to_thread(index.search, query, k), left)
        except asyncio.TimeoutError:
            log.info("call", extra={"tool": NAME, "status": "timeout", "seconds": round(time.monotonic() - start, 4)})
            return calls.failure(f"The search was stopped: no result within {max(left, 0):.1f} s.")
        log.info(
            "call",
            extra={"tool": NAME, "status": "ok", "found": len(found), "seconds": round(time.monotonic() - start, 4)},
        )
        return calls.answer(show(query, found, passage_chars))

    mcp.add_tool(
        wikipedia_search,
        description=f"Search Wikipedia passages by keyword and return the best {k}.",
        meta=calls.meta(NOTES, pure=True),
        structured_output=False,
    )
    return mcp


def show(query: str, passages: Sequence[Passage], passage_chars: int) -> str:
    """The passages as numbered text, each text cut to ``passage_chars`` characters with a visible mark."""
    if not passages:
        return f"No result for {query!r}. Try other or fewer words."
    return "\n\n".join(
        f"[{number}] {passage.title}\n{cut(passage.text, passage_chars)}"
        for number, passage in enumerate(passages, start=1)
    )


def cut(text: str, most: int) -> str:
    """``text``, or its first ``most`` characters and how many were left out."""
    return text if len(text) <= most else f"{text[:most].rstrip()} [... {len(text) - most} characters left out]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line entry. Exits with 2 and one line when an option or the corpus is wrong."""
    parser = options.parser(NAME, "Serve BM25 search over a local corpus as the MCP tool wikipedia_search.")
    parser.add_argument("--corpus", type=Path, required=True, metavar="FILE", help='JSON lines with "title" and "text"')
    parser.add_argument(
        "--k", type=options.integer(1, 100), default=3, help="passages a query returns (default: %(default)s)"
    )
    parser.add_argument(
        "--passage-chars",
        type=options.integer(50, 100_000),
        default=1_200,
        help="characters shown of each (default: %(default)s)",
    )
    given = parser.parse_args(arguments)
    logs.configure()
    try:
        if given.exit_with_parent is not None:
            lifetime.end_with_parent(given.exit_with_parent)
        start = time.monotonic()
        passages = read(given.corpus)
        index = Index(passages)
        log.info("index built", extra={"passages": len(passages), "seconds": round(time.monotonic() - start, 3)})
        mcp = build(index, given.k, given.passage_chars, given.timeout)
        asyncio.run(serve.serve(mcp, given.host, given.port, {}))
    except (CorpusError, lifetime.ParentGone, OSError) as error:
        serve.refuse(NAME, str(error), 2)
