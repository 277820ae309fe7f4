"""The prompts of a logged trajectory, rebuilt from the record and from what lies beside the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.flow.prompts import Prompts
from agentflow_verl.flow.replay import RebuiltPrompt, rebuild_prompts
from agentflow_verl.trajectories.manifest import Setup
from agentflow_verl.trajectories.records import Trajectory


class PromptRebuilder:
    """Keeps each folder's ``flow.json`` and templates, which many trajectories share."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[Setup, Prompts] | None] = {}

    def prompts_of(
        self, trajectory: Trajectory, path: Path, count: Callable[[str], int] | None
    ) -> list[RebuiltPrompt]:
        """One per model call, in their order; fewer, or none, where they cannot be rebuilt.

        Args:
            path: the log's file that the trajectory is of.
            count: tokens of a text, by the run's tokenizer.
        """
        folder = path.parent
        if folder not in self._known:
            self._known[folder] = _read(path)
        known = self._known[folder]
        if known is None:
            return []
        setup, prompts = known
        return asyncio.run(rebuild_prompts(trajectory, setup, prompts, count))


def _read(path: Path) -> tuple[Setup, Prompts] | None:
    """Setup and templates of a log; None where there is no ``flow.json``, or one of another form,
    or where the run's templates are gone.
    """
    try:
        setup = Setup.near(path)
        if setup is None:
            return None
        return setup, Prompts.from_folder(setup.prompts)
    except (ConfigError, OSError, ValueError):
        return None
