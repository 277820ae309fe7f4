"""An endpoint that plays the modules which a run does not train, in place of a frozen base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tests.evaluation.fakes import OPENINGS
from tests.flow.fakes import CONTINUE


def modules(call: str) -> Callable[[dict[str, Any]], str]:
    """What the endpoint says: the executor always makes ``call``."""
    says = {
        "analyst": "Use python_coder.",
        "executor": call,
        "verifier": CONTINUE,
        "generator": "<answer>1</answer>",
    }

    def say(body: dict[str, Any]) -> str:
        system = body["messages"][0]["content"]
        for module, opening in OPENINGS.items():
            if system.startswith(opening):
                return says[module]
        return "yes"  # to the check before the run

    return say


def all_but_the_planner(url: str, base: Sequence[str] = ()) -> list[str]:
    """Overrides by which the endpoint answers every module but the planner and those of ``base``,
    which the frozen base answers.
    """
    overrides = [f"+agentflow.endpoints.scripted={{base_url: '{url}', model: toy}}"]
    for module in ("analyst", "executor", "verifier", "generator"):
        engine = "base" if module in base else "scripted"
        overrides.append(f"agentflow.engines.{module}={engine}")
    return overrides
