"""The table of all trajectories, by columns, and the chunks that hold their details.

A chunk is a few whole groups: enough text to compress well, little enough to open quickly.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

from agentflow_verl.core.unicode import well_formed
from agentflow_verl.trajectories.records import Outcome
from agentflow_verl.trajectories.run_folder import Entry, Run, attempts_of
from agentflow_verl.trajectories.safe_files import Unreadable
from agentflow_verl.trajectories.turn_credit import turn_credit
from agentflow_verl.view.advantages import Estimator, advantages_of
from agentflow_verl.view.detail import Pack, Pieces, as_text
from agentflow_verl.view.prompts import PromptRebuilder

# In the order in which they run.
PARTS = ("analyst", "planner", "executor", "tools", "verifier", "generator", "total")
OUTCOMES = [outcome.value for outcome in Outcome]
CHUNK_BYTES = 1 << 18  # of the log
NEWEST_STEPS = 10  # for what turns do now, and not on the average of the run


@dataclass(frozen=True)
class Chunk:
    """Whole groups of one run, in the order of the table."""

    entries: tuple[Entry, ...]
    pieces: Pieces

    def packed(self) -> bytes:
        """The trajectories, read from disk, as compressed JSON."""
        pack = Pack(self.pieces, PromptRebuilder())
        for entry in self.entries:
            try:
                pack.add(entry.read(), entry.path)
            except Unreadable as error:
                pack.add_missing(str(error))
        return compress(pack.content())


@dataclass
class Index:
    """What the page reads first. ``packed`` gives its bytes; ``chunks`` are fetched when they are
    opened.
    """

    runs: list[dict[str, Any]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    trajectories: list[dict[str, Any]] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)

    def add(self, run: Run, pieces: Pieces) -> None:
        """Append a run: ordered by split, step, group, and a trajectory's number in it."""
        estimator = Estimator.from_config(run.config)
        curves = {}
        for name, points in sorted(run.curves.items()):
            curves[name] = sorted(points.items())
        notes = [*run.notes, *pieces.notes]
        trained = run.option("agentflow", "train")
        self.runs.append(
            {
                "name": run.name,
                "curves": curves,
                "notes": notes,
                "trains_planner": not isinstance(trained, list) or "planner" in trained,
                "credit": credit_tables(run.entries),
            }
        )
        for groups in batches(in_order(run.entries)):
            entries: list[Entry] = []
            for place, members in groups:
                entries += members
                self.groups.append(self._group(members[0], place))
                self.trajectories += map(
                    self._trajectory, members, advantages_of(members, estimator)
                )
            self.chunks.append(Chunk(tuple(entries), pieces))

    def packed(self) -> bytes:
        """The table as compressed JSON, column by column."""
        table = {
            "runs": self.runs,
            "outcomes": OUTCOMES,
            "parts": PARTS,
            "groups": columns(self.groups),
            "trajectories": columns(self.trajectories),
            "chunks": len(self.chunks),
        }
        return compress(table)

    def _group(self, first: Entry, place: int) -> dict[str, Any]:
        return {
            "run": len(self.runs) - 1,
            "split": first.split,
            "step": first.step,
            "uid": first.group,
            "source": first.data_source,
            "query": first.query,
            "truth": as_text(first.ground_truth),
            "chunk": len(self.chunks),
            "place": place,
        }

    def _trajectory(self, entry: Entry, advantage: float | None) -> dict[str, Any]:
        return {
            "group": len(self.groups) - 1,
            "session": entry.session,
            "outcome": OUTCOMES.index(entry.outcome.value),
            "reward": entry.reward,
            "advantage": advantage,
            "answer": entry.answer,
            "error": entry.error,
            "turns": entry.turns,
            "tokens": entry.tokens,
            "tools": entry.tools,
            "seconds": [round(entry.timings.get(part, 0.0), 3) for part in PARTS],
        }


def credit_tables(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Success by what a turn did: of each split over all steps, and over the newest of training."""
    tables = []
    for split in ("train", "val"):
        steps = sorted({entry.step for entry in entries if entry.split == split})
        firsts = steps[:1]
        if split == "train" and len(steps) > NEWEST_STEPS:
            firsts = [steps[-NEWEST_STEPS], steps[0]]
        for first in firsts:
            chosen = [entry for entry in entries if entry.split == split and entry.step >= first]
            rows = []
            for credit in turn_credit(attempts_of(chosen)):
                shown = {**vars(credit), "difference": credit.difference}
                del shown["differences"]
                rows.append(shown)
            if rows:
                tables.append({"split": split, "first": first, "last": steps[-1], "rows": rows})
    return tables


def in_order(entries: Sequence[Entry]) -> list[Entry]:
    """By split and step; groups in the order of the log; members by number."""
    seen: dict[tuple[str, int, str], int] = {}
    for entry in entries:
        seen.setdefault(_group_of(entry), len(seen))
    return sorted(
        entries, key=lambda entry: (entry.split, entry.step, seen[_group_of(entry)], entry.session)
    )


def batches(entries: Sequence[Entry]) -> Iterator[list[tuple[int, list[Entry]]]]:
    """Distribute groups over chunks. Each group comes with its place: how many trajectories of the
    chunk precede it.
    """
    batch: list[tuple[int, list[Entry]]] = []
    size = place = 0
    for _, members in groupby(entries, key=_group_of):
        group = list(members)
        batch.append((place, group))
        place += len(group)
        size += sum(entry.size for entry in group)
        if size >= CHUNK_BYTES:
            yield batch
            batch, size, place = [], 0, 0
    if batch:
        yield batch


def columns(rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """One list per field, so that the names are written once and similar values compress well."""
    if not rows:
        return {}
    return {name: list(map(itemgetter(name), rows)) for name in rows[0]}


def compress(value: Any) -> bytes:
    """``value`` as JSON that a browser can parse, compressed; the same bytes for the same value."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:  # JSON has no nan, and a browser rejects the one that Python writes
        text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"))
    # mtime=0: gzip's header would otherwise hold the time, and the same run give other bytes.
    return gzip.compress(well_formed(text).encode(), 6, mtime=0)


def _finite(value: Any) -> Any:
    """nan and infinities as the words that the page shows."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return list(map(_finite, value))
    return value


def _group_of(entry: Entry) -> tuple[str, int, str]:
    return entry.split, entry.step, entry.group
