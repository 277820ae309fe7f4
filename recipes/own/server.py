"""A tool of one's own: converts lengths. An MCP server on standard input and output, made with the
official SDK, that knows nothing of agentflow_verl; ``tool_servers.stdio`` serves it to the run."""

from __future__ import annotations

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

METRES = {
    "mm": 0.001,
    "cm": 0.01,
    "m": 1.0,
    "km": 1000.0,
    "inch": 0.0254,
    "foot": 0.3048,
    "yard": 0.9144,
    "mile": 1609.344,
}
server = MCPServer("unit_converter")


@server.tool()
def unit_converter(value: float, source: str, target: str) -> str:
    """Convert a length from one unit to another."""
    for unit in (source, target):
        if unit not in METRES:
            raise ToolError(
                f"unknown unit {unit!r}; the units are {', '.join(METRES)}"
            )  # the planner reads this
    return f"{value * METRES[source] / METRES[target]:.10g} {target}"


if __name__ == "__main__":
    server.run()
