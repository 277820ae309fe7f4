"""The scripted agent that the base model is warm-started on: sound executor, verifier and
generator, careless planner.

One ``ScriptedAgent`` plays all five modules of one trajectory in the real loop, so that the
examples are the loop's own prompts. The planner takes the right step only some of the time;
otherwise it picks the wrong tool, or the right tool with the wrong sub-goal. The base model
learns the formats from it, and a planner that is right by chance.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from questions import Question, Step, compute, look_up

from agentflow_verl.core.deadline import Deadline
from agentflow_verl.engines.interface import Message, Reply


@dataclass(frozen=True)
class ErrorRates:
    """Chances of the planner's moves; the rest is the right step."""

    wrong_tool: float = 0.72
    wrong_goal: float = 0.05


class ScriptedAgent:
    """Answers as each module. ``examples`` collects (messages, reply) pairs."""

    name = "scripted"

    def __init__(
        self, question: Question, rng: random.Random, others: list[str], rates: ErrorRates
    ):
        self.question = question
        self.rng = rng
        self.others = others  # titles of other articles
        self.rates = rates
        self.done = 0  # right steps taken
        self.move: tuple[str, Step] = ("right", question.steps[0])
        self.examples: list[tuple[list[Message], str]] = []

    def engines(self) -> dict[str, ScriptedEngine]:
        speak = {
            "analyst": lambda: json.dumps({"analysis": self.question.hint}),
            "planner": self.plan,
            "executor": lambda: json.dumps(self.move[1].arguments),
            "verifier": self.verify,
            "generator": lambda: json.dumps(self.conclude()),
        }
        return {module: ScriptedEngine(self, voice) for module, voice in speak.items()}

    def plan(self) -> str:
        right = self.question.steps[min(self.done, len(self.question.steps) - 1)]
        draw = self.rng.random()
        if draw < self.rates.wrong_tool:
            self.move = ("wrong_tool", self._other_tool(right))
        elif draw < self.rates.wrong_tool + self.rates.wrong_goal:
            self.move = ("wrong_goal", self._other_goal(right))
        else:
            self.move = ("right", right)
        step = self.move[1]
        reason = "A fact is missing." if step.tool == "wikipedia_search" else "A value is missing."
        return (
            f"Justification: {reason}\nContext: none\nSub-goal: {step.sub_goal}\nTool: {step.tool}"
        )

    def _other_tool(self, right: Step) -> Step:
        """The same words for the other tool: a program that echoes them, or a search that finds
        something else.
        """
        if right.tool == "wikipedia_search":
            title = right.arguments["query"]
            return compute(f"Compute {title}", f"print('{title}')")
        return look_up(right.sub_goal.removeprefix("Compute "))

    def _other_goal(self, right: Step) -> Step:
        """The right tool, asked for something else."""
        if right.tool == "wikipedia_search":
            return look_up(self.rng.choice(self.others))
        first, *_ = right.sub_goal.removeprefix("Compute ").split()
        number = self.rng.randint(2, 99)
        return compute(f"Compute {number} + {number}", f"print({number} + {number})")

    def verify(self) -> str:
        """STOP once the last step looks done. A wrong sum looks done too: nothing in the result
        says otherwise.
        """
        kind, step = self.move
        last = self.done == len(self.question.steps) - 1
        self.done += kind == "right"
        done = last and (kind == "right" or (kind == "wrong_goal" and step.tool == "python_coder"))
        if done:
            return json.dumps({"analysis": "The value is found.", "conclusion": "STOP"})
        return json.dumps({"analysis": "Something is missing.", "conclusion": "CONTINUE"})

    def conclude(self) -> dict[str, str]:
        found = {"reason": "The last result says it."}
        if self.done == len(self.question.steps):
            return {**found, "answer": self.question.answer}
        if self.move[0] == "wrong_goal" and self.move[1].tool == "python_coder":
            return {**found, "answer": str(2 * int(self.move[1].sub_goal.split()[-1]))}
        return {"reason": "No result says it.", "answer": "unknown"}


class ScriptedEngine:
    """One module's engine: writes down what it was asked and what it said."""

    name = "scripted"
    structured = False
    has_tokenizer = False

    def __init__(self, agent: ScriptedAgent, speak: Callable[[], str]):
        self.agent = agent
        self.speak = speak

    def count(self, text: str) -> int:
        return len(text) // 4 + 1

    async def reply(
        self,
        messages: list[Message],
        *,
        trajectory: str,
        deadline: Deadline,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        text = self.speak()
        self.agent.examples.append((messages, text))
        return Reply(text=text, engine=self.name, prompt_ids=(0,), response_ids=(0,))
