"""The MCP server that every tool of ours stands on, asked by the SDK's own client."""

from __future__ import annotations

import pytest
from mcp.client.client import Client
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, CallToolResult
from pydantic import BaseModel, Field

from tool_servers.common import calls
from tool_servers.common.tool import OneTool


class Arguments(BaseModel):
    """Not shown to models."""

    number: int = Field(description="What to halve.", ge=0)
    unit: str = ""


async def halve(asked: Arguments, context: ServerRequestContext) -> CallToolResult:
    if asked.unit == "broken":
        raise calls.server_error("the scale is broken")
    return calls.text_result(f"{12 // asked.number}{asked.unit}")


SERVER = OneTool(
    "halve", "Halve a number.", Arguments, halve, calls.tool_meta("No fractions.", cacheable=True)
)


async def test_arguments_that_may_all_be_left_out_or_have_parts_are_listed_whole():
    class Part(BaseModel):
        size: int

    class Optional(BaseModel):
        parts: list[Part] = []

    [tool] = await OneTool("assemble", "Assemble parts.", Optional, halve, {}).list_tools()
    assert "required" not in tool.input_schema and tool.input_schema["$defs"]["Part"][
        "required"
    ] == ["size"]


async def test_it_lists_one_tool_with_its_arguments_and_notes():
    async with Client(SERVER) as client:
        [tool] = (await client.list_tools()).tools
    assert (tool.name, tool.description, tool.meta[calls.NOTES], tool.meta[calls.CACHEABLE]) == (
        "halve",
        "Halve a number.",
        "No fractions.",
        True,
    )
    assert tool.input_schema["required"] == ["number"] and "description" not in tool.input_schema
    assert tool.input_schema["properties"]["number"] == {
        "description": "What to halve.",
        "minimum": 0,
        "title": "Number",
        "type": "integer",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"number": 3, "unit": "m"}, "4m"),
        ({}, "number: Field required"),
        (None, "number: Field required"),
        (
            {"number": -1, "unit": 3},
            (
                "number: Input should be greater than or equal to 0; unit: Input should be a valid"
                " string"
            ),
        ),
    ],
)
async def test_wrong_arguments_are_for_the_model_to_read(arguments, said):
    async with Client(SERVER) as client:
        result = await client.call_tool("halve", arguments)
    assert (result.content[0].text, bool(result.is_error)) == (said, said != "4m")


@pytest.mark.parametrize(
    ("name", "arguments", "code", "said"),
    [
        ("double", {"number": 3}, INVALID_PARAMS, "Unknown tool: double"),
        ("halve", {"number": 3, "unit": "broken"}, INTERNAL_ERROR, "the scale is broken"),
        ("halve", {"number": 0}, INTERNAL_ERROR, "halve failed: ZeroDivisionError"),
    ],
)
async def test_what_no_model_is_to_blame_for_is_an_error_of_the_protocol(
    name, arguments, code, said
):
    async with Client(SERVER) as client:
        with pytest.raises(MCPError) as error:
            await client.call_tool(name, arguments)
    assert (error.value.error.code, error.value.error.message) == (code, said)
