"""``agentflow replay``: run recorded trajectories again, and show where the result differs now."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.flow.prompts import Prompts
from agentflow_verl.flow.replay import Difference, asked_in_tokens, first_difference, replay
from agentflow_verl.trajectories.log import read_trajectories
from agentflow_verl.trajectories.manifest import FILE, Setup
from agentflow_verl.trajectories.records import Trajectory

PARENTS_SEARCHED = 4  # from a log's file up to the folder of its run


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="FILE[:ID]",
        help="a file of the trajectory log, or what solve --json wrote; one of its trajectories",
    )
    parser.add_argument(
        "--tokenizer",
        metavar="MODEL",
        help="a model's folder or name, to compare prompts (default: the one of the run)",
    )
    parser.add_argument(
        "--prompts",
        type=Path,
        metavar="DIR",
        help="folder of prompt templates (default: the one of the run, else the shipped ones)",
    )


def run(options: Namespace) -> int:
    """Print the report; 1 if any trajectory differs from its record."""
    status = 0
    for line in report(options.source, options.tokenizer, options.prompts):
        print(line.text, flush=True)
        if line.different:
            status = 1
    return status


@dataclass(frozen=True)
class Line:
    """A printed text; ``different`` where a trajectory differs from its record."""

    text: str
    different: bool = False


def report(
    source: str, tokenizer_path: str | None = None, prompts_folder: Path | None = None
) -> Iterator[Line]:
    """A few lines for each trajectory of ``source`` (FILE, or FILE:ID) that differs from its
    record, then a summary.

    Raises ConfigError: no such file, no such trajectory, no such tokenizer, a template that is
    wrong, or a file that holds something else.
    """
    path, wanted = _split(source)
    trajectories = [found for found in read_trajectories(path) if wanted in (None, found.id)]
    if not trajectories:
        missing = "no trajectories"
        if wanted:
            missing = f"no trajectory {wanted}"
        raise ConfigError(f"{path} has {missing}")
    setup = Setup.near(path)
    tokenizer, not_compared = _tokenizer(path, setup, tokenizer_path)
    prompts, note = _prompts(setup, prompts_folder)
    if note:
        yield Line(note)
    outcomes: Counter[str] = Counter()
    different, compared = 0, False
    for recorded in trajectories:
        outcomes[recorded.outcome.value] += 1
        compared = compared or asked_in_tokens(recorded)
        texts = []
        for one in (setup,) if setup is not None else Setup.guesses(recorded):
            now = asyncio.run(replay(recorded, one, tokenizer, prompts))
            difference = first_difference(recorded, now, tokenizer)
            if difference is None:
                break
            texts.append(_difference_text(recorded, now, difference))
        else:
            different += 1
            yield Line(texts[0], different=True)
    if not compared:
        not_compared = not_compared or "prompts were not compared: they were sent in text"
    counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
    yield Line(
        f"{len(trajectories)} replayed ({counts}), {different} different;"
        f" {not_compared or 'prompts were compared too'}"
    )


def _difference_text(recorded: Trajectory, now: Trajectory, difference: Difference) -> str:
    text = (
        f"{recorded.id}: {difference.where}\n"
        f"  recorded  {difference.recorded}\n"
        f"  now       {difference.now}"
    )
    if now.error != recorded.error:
        text += f"\n  it now ends {now.outcome.value}: {now.error}"
    return text


def _split(source: str) -> tuple[Path, str | None]:
    """``FILE:ID`` where there is no file of the whole name."""
    # Either may contain a colon itself.
    if Path(source).is_file():
        return Path(source), None
    parts = source.split(":")
    for count in range(len(parts) - 1, 0, -1):
        name = ":".join(parts[:count])
        if Path(name).is_file():
            return Path(name), ":".join(parts[count:])
    raise ConfigError(f"{source}: there is no such file; name one under a run's trajectories/")


def _prompts(setup: Setup | None, given: Path | None) -> tuple[Prompts, str]:
    """The templates to replay with, and a note where they are not those of the run."""
    recorded = setup.prompts if setup is not None else None
    if given is not None:
        prompts = Prompts.from_folder(given, "--prompts")
    elif recorded is not None and Path(recorded).is_dir():
        prompts = Prompts.from_folder(recorded, FILE)
    else:
        prompts = Prompts.shipped()
    if setup is None or setup.prompts_digest in ("", prompts.digest):
        return prompts, ""
    where = f" ({recorded})" if recorded is not None else ""
    note = (
        f"the prompt templates differ from those of the run{where}: prompts may differ for that"
        " alone; name the run's with --prompts DIR"
    )
    return prompts, note


def _tokenizer(path: Path, setup: Setup | None, given: str | None) -> tuple[Any, str]:
    """The tokenizer, or None and why prompts are not compared."""
    if setup is None:
        reason = f"there is no {FILE} that says which tools they showed"
        return None, f"prompts were not compared: {reason}"
    if not setup.tokenizer and given is None:
        reason = "the engines were asked in text, and the record has none"
        return None, f"prompts were not compared: {reason}"
    place = _named(given) if given else _saved_tokenizer(path, setup.tokenizer)
    if place is None:
        reason = f"the tokenizer {setup.tokenizer} is not here; name one with --tokenizer"
        return None, f"prompts were not compared: {reason}"
    try:
        from transformers import AutoTokenizer
    except ModuleNotFoundError:
        if given is not None:
            raise  # main names the extra
        reason = "transformers is not installed (pip install 'agentflow_verl[train]')"
        return None, f"prompts were not compared: {reason}"
    try:
        return AutoTokenizer.from_pretrained(place), ""
    except (OSError, ValueError) as error:
        raise ConfigError(f"--tokenizer {place}: {' '.join(str(error).split())}") from None


def _named(given: str) -> str:
    """A folder, or a model's name on the hub. Raises ConfigError for what can be neither."""
    folder = Path(given).expanduser()
    if folder.is_dir():
        return str(folder)
    if given.startswith((".", "/", "~")) or given.count("/") > 1:
        raise ConfigError(f"--tokenizer {given}: there is no such folder; name a model's")
    return given


def _saved_tokenizer(path: Path, named: str) -> str | None:
    """The tokenizer that the run names, else the one saved with the run's weights."""
    places = [Path(named)]
    for parent in path.resolve().parents[:PARENTS_SEARCHED]:
        places += sorted(parent.glob("checkpoints/*/actor/huggingface"))
    for place in places:
        if place.is_dir():
            return str(place)
    return None
