"""The tools of another MCP server, passed on: listed as they are, called with a deadline and a
limit on calls at once.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    Tool,
)

from tool_servers.common import calls


class Bridge(Server):
    """``client`` is connected already; ``tools`` are those of its tools that are shown."""

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
        self, context: ServerRequestContext, params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        return ListToolsResult(tools=await self.list_tools())

    async def _call(
        self, context: ServerRequestContext, params: CallToolRequestParams
    ) -> CallToolResult:
        if params.name not in self._tools:
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {params.name}")

        async def work(_: float) -> CallToolResult:
            try:
                result = await self._client.call_tool(params.name, params.arguments)
            except MCPError as error:
                if error.error.code == INVALID_PARAMS:
                    raise calls.ToolError(error.error.message) from None
                raise calls.ServiceError(
                    f"the server behind it failed: {error.error.message}"
                ) from None
            if result.content:  # the same once more, in another form
                result.structured_content = None
            return result

        return await calls.run(params.name, context, self._timeout, self._slots, work)


async def tools_of(client: Client) -> list[Tool]:
    """Every tool it lists, without output schemas: results are passed on as text."""
    found: list[Tool] = []
    cursor = None
    while True:
        page = await client.list_tools(cursor=cursor)
        found += [tool.model_copy(update={"output_schema": None}) for tool in page.tools]
        cursor = page.next_cursor
        if cursor is None:
            return found


async def ended(client: Client, every_s: float) -> None:
    """Returns when the server behind ``client`` is gone; looks every ``every_s`` seconds."""
    while True:
        await anyio.sleep(every_s)
        try:
            await client.list_tools(cache_mode="bypass")
        except MCPError as error:
            if error.error.code == CONNECTION_CLOSED:
                return
        except anyio.ClosedResourceError:
            return
