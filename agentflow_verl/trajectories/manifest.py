"""What the trajectories of a folder were made with, beside the models: kept as ``flow.json`` next
to them, for replay.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agentflow_verl.config.limits import Limits
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.core.private_files import PRIVATE, make_private_folder
from agentflow_verl.tools.toolbox import tool_key
from agentflow_verl.tools.types import ToolSpec
from agentflow_verl.trajectories.records import (
    Mistake,
    Outcome,
    Record,
    Trajectory,
    first_mistake,
)

FILE = "flow.json"
ANOTHER_TOOL = "a_tool_that_was_not_called"


def absolute(folder: str | None) -> str | None:
    """``folder`` as it is found from any working directory."""
    return None if folder is None else str(Path(folder).expanduser().resolve())


class Setup(Record):
    """``prompt_limits`` (tokens, by engine), ``template`` (arguments of the chat template) and
    ``tokenizer`` (a folder or a name) are of the engines that are asked in tokens; empty where
    there is none. ``prompts`` is the folder of the run's own templates, if it has one, and
    ``prompts_digest`` the digest of all templates in use; empty in a record that is older."""

    limits: Limits
    tools: tuple[ToolSpec, ...]
    prompt_limits: dict[str, int] = {}
    template: dict[str, Any] = {}
    tokenizer: str = ""
    prompts: str | None = None
    prompts_digest: str = ""

    def save(self, folder: Path, umask: int = PRIVATE) -> None:
        """Write it into ``folder``. Several processes may do so at once."""
        make_private_folder(folder, umask)
        draft = folder / f"{FILE}.{os.getpid()}"
        draft.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        draft.replace(folder / FILE)

    @classmethod
    def near(cls, path: Path) -> Setup | None:
        """The one of the folder that a file of trajectories lies in, or of a folder above it; None
        where there is none. Raises ConfigError for one that cannot be read.
        """
        found = next(
            (file for folder in path.resolve().parents if (file := folder / FILE).is_file()), None
        )
        if found is None:
            return None
        try:
            return cls.model_validate_json(found.read_bytes())
        except OSError as error:
            raise ConfigError(f"{found} cannot be read: {error.strerror}") from None
        except ValidationError as error:
            raise ConfigError(
                f"{found} is of another version, or damaged ({first_mistake(error)}); without it"
                " prompts are not compared"
            ) from None

    @classmethod
    def guesses(cls, trajectory: Trajectory) -> tuple[Setup, ...]:
        """As ``guessed``; and where one tool alone is named, with another beside it: where there is
        only one, a plan that does not name it is completed with it.
        """
        first = cls.guessed(trajectory)
        if len(first.tools) != 1:
            return (first,)
        another = ToolSpec(ANOTHER_TOOL, "", _schema([]))
        return first, first.model_copy(update={"tools": (*first.tools, another)})

    @classmethod
    def guessed(cls, trajectory: Trajectory) -> Setup:
        """As far as the record itself tells: enough for everything but prompts."""
        turns = len(trajectory.turns)
        stopped = trajectory.outcome in (Outcome.OUT_OF_TURNS, Outcome.MALFORMED)
        limits = Limits(
            max_turns=turns if stopped and turns else max(turns + 1, Limits().max_turns)
        )
        calls: dict[str, list[dict[str, Any]]] = {
            name: [] for turn in trajectory.turns for name in turn.known_tools
        }
        for turn in trajectory.turns:
            if turn.call is not None:
                calls.setdefault(turn.call.tool, []).append(turn.call.arguments)
        keys = set(map(tool_key, calls))
        for turn in trajectory.turns:
            if (
                turn.plan is not None
                and turn.mistake is not Mistake.UNKNOWN_TOOL
                and tool_key(turn.plan.tool) not in keys
            ):  # found, but never called
                calls[turn.plan.tool] = []
                keys.add(tool_key(turn.plan.tool))
        return cls(
            limits=limits,
            tools=tuple(ToolSpec(name, "", _schema(given)) for name, given in calls.items()),
        )


def _schema(calls: list[dict[str, Any]]) -> dict[str, Any]:
    """What all of a tool's calls satisfy; on it depends what a call's text may leave out."""
    common = set.intersection(*map(set, calls)) if calls else set()
    texts = {name for name in common if all(isinstance(call[name], str) for call in calls)}
    return {
        "type": "object",
        "properties": {name: {"type": "string"} for name in sorted(texts)},
        "required": sorted(common),
    }
