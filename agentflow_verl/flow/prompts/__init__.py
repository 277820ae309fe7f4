"""Prompt templates: a file a module, system part and user part divided by a line of three dashes.

The system part is the same for every trajectory (for the executor: for every call of one tool) and
the user part ends with what changes from turn to turn, so that prefixes are shared. ``$name`` marks
a field.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template

from agentflow_verl.engines.interface import Message


@dataclass(frozen=True)
class Prompt:
    """A module's template."""

    system: Template
    user: Template

    @property
    def shows_memory(self) -> bool:
        return "$memory" in self.user.template

    def render(self, **fields: str) -> list[Message]:
        """The two messages of a call. Raises KeyError for a field that is missing."""
        return [
            {"role": "system", "content": self.system.substitute(fields)},
            {"role": "user", "content": self.user.substitute(fields)},
        ]


@cache
def load(module: str) -> Prompt:
    """The shipped template of ``module``."""
    system, user = (
        files(__name__).joinpath(f"{module}.md").read_text(encoding="utf-8").split("\n---\n")
    )
    return Prompt(Template(system.strip()), Template(user.strip()))
