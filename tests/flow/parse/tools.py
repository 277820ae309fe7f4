"""The tools that these tests' plans and calls are for."""

from __future__ import annotations

from agentflow_verl.flow.parse import parse_plan
from agentflow_verl.tools.toolbox import ToolBox
from agentflow_verl.tools.types import ToolSpec

CODE = {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]}
QUERY = {
    "type": "object",
    "properties": {
        "query": {"type": "string"},
        "k": {"type": "integer"},
        "deep": {"type": "boolean"},
    },
    "required": ["query"],
}
TOOLS = ToolBox(
    None,
    [
        (ToolSpec(name, "", {"type": "object"}), None)
        for name in ("python_coder", "wikipedia_search", "web_search")
    ],
)


def tool_of(text):
    """The name of the tool that a plan's text names; None for one that is not there."""
    spec = TOOLS.resolve(parse_plan(text).tool)
    return None if spec is None else spec.name
