"""An MCP server of one tool, on the official SDK's low-level server: with the high-level one a call
costs a fifth more.

Arguments that do not fit are a result with ``isError``, for the model. A name that is not the
tool's is a JSON-RPC error.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    Tool,
)
from pydantic import BaseModel, ValidationError

from tool_servers.common import calls

log = logging.getLogger(__name__)
Arguments = TypeVar("Arguments", bound=BaseModel)


class OneTool(Server[Any]):
    """The server of the tool ``name``.

    ``arguments``: the model whose JSON schema is listed, and whose instance ``call`` gets, with the
    request's context.
    """

    def __init__(
        self,
        name: str,
        description: str,
        arguments: type[Arguments],
        call: Callable[[Arguments, ServerRequestContext[Any]], Awaitable[CallToolResult]],
        meta: Mapping[str, Any],
    ) -> None:
        # without get_tool_input_schema, the SDK would search the schema at each call for arguments
        # that are repeated in a header; ours has none
        super().__init__(
            name,
            on_list_tools=self._list,
            on_call_tool=self._call,
            get_tool_input_schema=lambda _: None,
        )
        # the SDK's own middleware makes OpenTelemetry spans, which nothing here exports
        self.middleware.clear()
        schema = arguments.model_json_schema() | {"title": f"{name}Arguments"}
        schema.pop("description", None)  # the model's docstring
        self._tool = Tool(name=name, description=description, input_schema=schema, _meta=dict(meta))
        self._arguments, self._work = arguments, call

    async def list_tools(self) -> list[Tool]:
        """The one tool."""
        return [self._tool]

    async def _list(
        self, context: ServerRequestContext[Any], params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        return ListToolsResult(tools=[self._tool])

    async def _call(
        self, context: ServerRequestContext[Any], params: CallToolRequestParams
    ) -> CallToolResult:
        if params.name != self.name:
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {params.name}")
        try:
            arguments = self._arguments.model_validate(params.arguments or {})
        except ValidationError as error:
            return calls.error_result(describe_errors(error))
        try:
            return await self._work(arguments, context)
        except MCPError:
            raise
        except Exception as error:  # of the server's own code: the model is not to blame for it
            log.exception("call failed", extra={"tool": self.name})
            raise calls.server_error(f"{self.name} failed: {type(error).__name__}") from error


def describe_errors(error: ValidationError) -> str:
    """What was wrong with the arguments, for the model."""
    found = []
    for one in error.errors():
        place = ".".join(map(str, one["loc"])) or "arguments"
        found.append(f"{place}: {one['msg']}")
    return "; ".join(found)
