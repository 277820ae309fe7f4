"""The tool ``base_generator``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import anyio
from mcp.server.context import ServerRequestContext
from mcp_types import CallToolResult
from pydantic import BaseModel, Field

from tool_servers.base_generator.chat import Chat
from tool_servers.common import calls, options, serve
from tool_servers.common.fingerprint import compute_fingerprint
from tool_servers.common.tool import OneTool
from tool_servers.common.upstream import Upstream

NAME = "base_generator"
NOTES = (
    "A language model answers from what it knows: no search, no computation, no memory of earlier"
    " steps. Put everything it needs into the query, and use it for summaries, common knowledge and"
    " reasoning in words. Facts that matter should be checked with another tool."
)
LONGEST_QUERY = 100_000


class Arguments(BaseModel):
    """What a call takes."""

    query: str = Field(
        description="The complete task or question, with its context.",
        min_length=1,
        max_length=LONGEST_QUERY,
    )


def build(chat: Chat, timeout: float, concurrency: int, fingerprint: str = "") -> OneTool:
    """The MCP server over a model."""
    slots = anyio.CapacityLimiter(concurrency)

    async def call(asked: Arguments, context: ServerRequestContext[Any]) -> CallToolResult:
        return await calls.run(
            NAME, context, timeout, slots, lambda end: chat.answer(asked.query, end)
        )

    meta = calls.tool_meta(NOTES, cacheable=False, fingerprint=fingerprint)
    return OneTool(
        NAME, "Ask a general language model and return its answer.", Arguments, call, meta
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line entry. Exits with 2 and one line when an option is wrong or a key is missing."""
    parser = options.parser(
        NAME, "Serve one call to a language model as the MCP tool base_generator.", timeout=60.0
    )
    parser.add_argument(
        "--base-url",
        type=options.web_address,
        required=True,
        metavar="URL",
        help="OpenAI-compatible endpoint, up to /v1",
    )
    parser.add_argument("--model", required=True, help="model, as the endpoint calls it")
    parser.add_argument(
        "--api-key-env",
        metavar="NAME",
        help="environment variable that holds the key (default: no key)",
    )
    parser.add_argument(
        "--temperature",
        type=options.number(0, 2),
        default=0.0,
        help="of the sampling (default: %(default)s)",
    )
    options.add_integer(parser, "--max-tokens", 1, 1 << 20, 1_024, "longest answer")
    parser.add_argument(
        "--system", default="", metavar="TEXT", help="system message (default: none)"
    )
    options.add_upstream(parser, concurrency=64)
    given = parser.parse_args(arguments)
    serve.start(NAME, given, lambda: _ready(given))


def _ready(given: argparse.Namespace) -> serve.Ready:
    key: str | None = None
    secrets: tuple[str, ...] = ()
    if given.api_key_env:
        key = options.secret(given.api_key_env)
        secrets = (key,)
    upstream = Upstream("endpoint", given.max_reply_bytes, given.user_agent, secrets)
    chat = Chat(
        upstream,
        given.base_url,
        given.model,
        key,
        given.temperature,
        given.max_tokens,
        given.system,
    )
    mcp = build(chat, given.timeout, given.concurrency, compute_fingerprint(NAME, given))
    return serve.Ready(mcp, {"model": given.model}, upstream.close)
