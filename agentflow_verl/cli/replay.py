"""``agentflow replay``: trajectories of a file run again from their records, and what now comes out
differently.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.flow.replay import first_difference, replay
from agentflow_verl.trajectories.log import ScoredTrajectory
from agentflow_verl.trajectories.manifest import FILE, Setup
from agentflow_verl.trajectories.records import Trajectory


@dataclass(frozen=True)
class Line:
    """What is printed; ``different`` where it tells of a trajectory that came out differently."""

    text: str
    different: bool = False


def lines(source: str, tokenizer_path: str | None = None) -> Iterator[Line]:
    """A few lines for each trajectory of ``source`` (FILE, or FILE:ID) that now comes out
    differently, then one in all.

    Raises ConfigError: no such file, no such trajectory, no such tokenizer, or a file that holds
    something else.
    """
    path, wanted = _split(source)
    trajectories = [found for found in read(path) if wanted in (None, found.id)]
    if not trajectories:
        raise ConfigError(
            f"{path} has no trajectory {wanted}" if wanted else f"{path} has no trajectories"
        )
    setup = Setup.near(path)
    tokenizer, not_compared = _tokenizer(path, setup, tokenizer_path)
    counts: Counter[str] = Counter()
    for recorded in trajectories:
        now = asyncio.run(replay(recorded, setup or Setup.guessed(recorded), tokenizer))
        counts[recorded.outcome.value] += 1
        difference = first_difference(recorded, now, tokenizer)
        if difference is not None:
            counts["different"] += 1
            text = (
                f"{recorded.id}: {difference.where}\n  recorded  {difference.recorded}\n  now      "
                f" {difference.now}"
            )
            yield Line(
                (
                    text
                    if now.error == recorded.error
                    else f"{text}\n  it now ends {now.outcome.value}: {now.error}"
                ),
                True,
            )
    different = counts.pop("different", 0)
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    yield Line(
        f"{len(trajectories)} replayed ({outcomes}), {different} different;"
        f" {not_compared or 'prompts were compared too'}"
    )


def read(path: Path) -> list[Trajectory]:
    """The trajectories of one file: of the log, a line each, or one alone."""
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix == ".jsonl":
            return [
                ScoredTrajectory.model_validate_json(line).trajectory
                for line in text.split("\n")
                if line
            ]
        return [Trajectory.model_validate_json(text)]
    except ValidationError as wrong:
        first = wrong.errors()[0]
        raise ConfigError(
            f"{path} is no file of trajectories: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from None


def _split(source: str) -> tuple[Path, str | None]:
    """``FILE:ID`` where there is no file of the whole name."""
    name, mark, wanted = source.partition(":") if not Path(source).is_file() else (source, "", "")
    if not Path(name).is_file():
        raise ConfigError(f"{name}: there is no such file; name one under a run's trajectories/")
    return Path(name), wanted if mark else None


def _tokenizer(path: Path, setup: Setup | None, given: str | None) -> tuple[Any, str]:
    """The tokenizer, or None and why prompts are not compared."""
    if setup is None:
        return (
            None,
            f"prompts were not compared: there is no {FILE} that says which tools they showed",
        )
    if not setup.tokenizer and given is None:
        return (
            None,
            "prompts were not compared: the engines were asked in text, and the record has none",
        )
    saved = (
        folder
        for parent in path.resolve().parents[:4]
        for folder in sorted(parent.glob("checkpoints/*/actor/huggingface"))
    )
    place = given or next(
        (name for name in (setup.tokenizer, *map(str, saved)) if Path(name).is_dir()), None
    )
    if place is None:
        return (
            None,
            (
                f"prompts were not compared: the tokenizer {setup.tokenizer} is not here; name one"
                " with --tokenizer"
            ),
        )
    from transformers import AutoTokenizer  # comes with verl: a record can be replayed without

    try:
        return AutoTokenizer.from_pretrained(place), ""
    except (OSError, ValueError) as wrong:
        raise ConfigError(f"--tokenizer {place}: {wrong}") from None
