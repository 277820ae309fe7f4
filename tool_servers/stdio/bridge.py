"""The tools of another MCP server, passed on: listed as they are, called with a deadline and a
limit on calls at once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import anyio
from mcp.client.client import Client
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)

from tool_servers.common import calls


class Bridge(Server[Any]):
    """``client`` is connected already. ``tools``: those of its tools that are shown."""

    def __init__(
        self, name: str, client: Client, tools: Sequence[Tool], timeout: float, concurrency: int
    ) -> None:
        super().__init__(name, on_list_tools=self._list, on_call_tool=self._call)
        self._client = client
        self._tools = {tool.name: tool for tool in tools}
        self._timeout = timeout
        self._slots = anyio.CapacityLimiter(concurrency)

    async def list_tools(self) -> list[Tool]:
        """The tools shown."""
        return list(self._tools.values())

    async def _list(
        self, context: ServerRequestContext[Any], params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        return ListToolsResult(tools=await self.list_tools())

    async def _call(
        self, context: ServerRequestContext[Any], params: CallToolRequestParams
    ) -> CallToolResult:
        if params.name not in self._tools:
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {params.name}")

        async def work(_: float) -> CallToolResult:
            try:
                result = await self._client.call_tool(params.name, params.arguments)
            except MCPError as error:
                message = error.error.message
                if error.error.code == INVALID_PARAMS:
                    raise calls.ToolError(message) from None
                raise calls.ServiceError(f"the server behind it failed: {message}") from None
            if _is_repeated(result):
                result.structured_content = None
            return result

        return await calls.run(params.name, context, self._timeout, self._slots, work)


def _is_repeated(result: CallToolResult) -> bool:
    """Whether the structured content is the text once more, as servers send it for clients that
    read only one of them (MCP, "structured content").
    """
    texts = [block.text for block in result.content if isinstance(block, TextContent)]
    if len(texts) != len(result.content) or not texts:
        return False
    structured = result.structured_content
    try:
        values = [json.loads(text) for text in texts]
    except (ValueError, RecursionError):
        values = list(texts)
    candidates: list[object] = [texts, values]
    if len(texts) == 1:
        candidates += [texts[0], values[0]]
    if isinstance(structured, dict) and structured.keys() == {"result"}:
        return structured in candidates or structured["result"] in candidates
    return structured in candidates


async def list_all_tools(client: Client) -> list[Tool]:
    """Every tool it lists, without output schemas: results are passed on unchecked."""
    found: list[Tool] = []
    cursor = None
    while True:
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            found.append(tool.model_copy(update={"output_schema": None}))
        cursor = page.next_cursor
        if cursor is None:
            return found


class Heartbeat:
    """Asks the other server again and again for its tools, which costs it next to nothing.

    ``every_s``: seconds between an answer and the next question. ``silence_s``: seconds without an
    answer after which it counts as failing. One that works on a call, and answers nothing else
    meanwhile, needs as long as a call may take.
    """

    def __init__(self, client: Client, every_s: float, silence_s: float) -> None:
        self._client, self._every_s, self._silence_s = client, every_s, silence_s
        self._asked: float | None = None

    def ailment(self) -> str | None:
        """Why the other server cannot answer calls, None where it can."""
        if self._asked is None or time.monotonic() - self._asked < self._silence_s:
            return None
        silent = time.monotonic() - self._asked
        return f"the server behind it has not answered for {silent:.0f} s"

    async def run(self) -> None:
        """Returns when the other server is gone."""
        while True:
            await anyio.sleep(self._every_s)
            self._asked = time.monotonic()
            try:
                await self._client.list_tools(cache_mode="bypass")
            except MCPError as error:
                if error.error.code == CONNECTION_CLOSED:
                    return
                if self.ailment():
                    continue  # the question ran into its time limit: still no answer
            except anyio.ClosedResourceError:
                return
            self._asked = None
