"""A third party's MCP server, on standard input and output, for the tests of the bridge."""

from __future__ import annotations

import os
import sys
import time

import anyio
from mcp.server.mcpserver import MCPServer

mcp = MCPServer("other")
mark = sys.argv[1] if len(sys.argv) > 1 else None


@mcp.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@mcp.tool()
async def wait(seconds: float) -> str:
    """Wait, and leave a mark when done or cancelled."""
    try:
        await anyio.sleep(seconds)
    except BaseException:
        with open(mark, "w") as file:
            file.write(f"cancelled {time.time()}")
        raise
    return "waited"


@mcp.tool()
def fail() -> str:
    """Raise."""
    raise ValueError("on purpose")


@mcp.tool()
def die() -> str:
    """End the whole process."""
    os._exit(9)


@mcp.tool()
async def hang() -> str:
    """Answer nothing from now on, and stay."""
    time.sleep(3_600)
    return "never"


@mcp.tool()
def environment() -> list[str]:
    """Names of the variables it sees."""
    return sorted(os.environ)


mcp.run("stdio")
