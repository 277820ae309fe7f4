"""The trajectory log of a run that resumes: no step twice, nothing deleted.

verl saves a checkpoint every ``trainer.save_freq`` steps and resumes from the last. The steps after
it were logged and run again, so their trajectories are moved to ``set_aside/{number}`` beside
``train`` and ``val``, where no reader looks.
"""

from __future__ import annotations

import logging
from collections.abc import Set
from pathlib import Path

from agentflow_verl.trajectories.log import entry_of

SET_ASIDE = "set_aside"

logger = logging.getLogger(__name__)


def set_aside_steps(log: Path, step: int, validates: bool) -> int:
    """Move what was logged after ``step``. Returns the number of files.

    Args:
        log: ``agentflow.trajectory_dir``.
        step: the step of the checkpoint, 0 for a run from scratch.
        validates: whether the run begins with a validation, which is logged under ``step`` itself.
    """
    late = _logged_from(log / "train", step + 1)
    late += _logged_from(log / "val", step if validates else step + 1)
    if not late:
        return 0
    target = _new_folder(log)
    for path in late:
        _move(path, target / path.relative_to(log))
    steps = sorted({_step(path) for path in late})
    logger.warning(
        "the run resumes after step %d: trajectories logged for step %s are in %s",
        step,
        ", ".join(map(str, steps)),
        target,
    )
    return len(late)


def set_aside_groups(log: Path, groups: Set[str]) -> int:
    """Move the trajectories of ``groups``, which will be rolled out again. Returns their number. A
    line that was cut short by a kill stays where it is.
    """
    moved = 0
    target: Path | None = None
    for path in sorted((log / "train").glob("step_*/*.jsonl")):
        again: list[bytes] = []
        others: list[bytes] = []
        for line in filter(None, path.read_bytes().split(b"\n")):
            entry = entry_of(line)
            moves = entry is not None and entry.group in groups
            (again if moves else others).append(line)
        if not again:
            continue
        target = target or _new_folder(log)
        _write(target / path.relative_to(log), again)
        _write(path, others)
        moved += len(again)
    if moved:
        logger.warning(
            "%d questions were under way at the checkpoint and are asked again: %d trajectories are"
            " in %s",
            len(groups),
            moved,
            target,
        )
    return moved


def _logged_from(folder: Path, first: int) -> list[Path]:
    """The files of step ``first`` and later."""
    return [path for path in sorted(folder.glob("step_*/*.jsonl")) if _step(path) >= first]


def _step(path: Path) -> int:
    return int(path.parent.name.removeprefix("step_"))


def _new_folder(log: Path) -> Path:
    """``set_aside/N``, N one more than the last."""
    numbers = [int(path.name) for path in (log / SET_ASIDE).glob("*") if path.name.isdigit()]
    folder = log / SET_ASIDE / str(max(numbers, default=0) + 1)
    folder.mkdir(parents=True)
    return folder


def _move(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    if not any(path.parent.iterdir()):
        path.parent.rmdir()


def _write(path: Path, lines: list[bytes]) -> None:
    """Whole or not at all: a run may be killed here too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(b"".join(line + b"\n" for line in lines))
    temporary.replace(path)
