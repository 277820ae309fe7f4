"""From a module's text to what the module must return.

One grammar per kind, each stated in its file's docstring. A perfect text and a sloppy one take the
same path, and what cannot be read raises MalformedOutput:

    clean       what is taken off or levelled first: reasoning, full-width signs, fences
    labels      "Label: value" lines, the common part of plans and verdicts
    plan        justification, context, sub-goal and tool
    arguments   a tool call's arguments, in the order in which the forms count
    wanted      what a tool's schema asks for, and the arguments inside wrappers
    call_forms  arguments as tags, a call, a fenced program or lines
    objects     JSON objects in a text, repaired where they are broken
    verdict     STOP or CONTINUE
"""

from __future__ import annotations

from agentflow_verl.flow.parse.arguments import parse_arguments
from agentflow_verl.flow.parse.clean import without_reasoning
from agentflow_verl.flow.parse.plan import complete_plan, parse_plan
from agentflow_verl.flow.parse.verdict import parse_verdict

__all__ = [
    "complete_plan",
    "parse_arguments",
    "parse_plan",
    "parse_verdict",
    "without_reasoning",
]
