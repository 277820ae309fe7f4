"""From rows of several sources to one mixture: filters, repeats, benchmark questions, shares.
Counts everything it drops.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from overlap import Match, Overlap, words_of
from sources import Row

from agentflow_verl.core.errors import ConfigError


@dataclass(frozen=True)
class Filters:
    """What a row must be. Difficulties are DeepMath's, -1 to 10; sources without one are not
    filtered by it.
    """

    max_question_chars: int = 4_000
    max_answer_chars: int = 200
    min_difficulty: float | None = None
    max_difficulty: float | None = None
    drop_variants: bool = False

    def refusal(self, row: Row) -> str:
        """Why the row is left out, or ""."""
        if not row.question or not row.answers:
            return "no question or no answer"
        if len(row.question) > self.max_question_chars:
            return "question too long"
        if min(map(len, row.answers)) > self.max_answer_chars:
            return "answer too long"
        difficulty = row.extra.get("difficulty")
        if (
            difficulty is not None
            and self.min_difficulty is not None
            and difficulty < self.min_difficulty
        ):
            return "too easy"
        if (
            difficulty is not None
            and self.max_difficulty is not None
            and difficulty > self.max_difficulty
        ):
            return "too hard"
        return ""


@dataclass
class Sifted:
    """What is left, by source, and what was dropped: counts by source and reason, and every
    benchmark question met.
    """

    rows: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    matches: list[tuple[Row, Match]] = field(default_factory=list)


def sift(rows: Iterable[Row], filters: Filters, overlap: Overlap) -> Sifted:
    """Keep the rows that pass, the first of those with the same words, and none that is a benchmark
    question.
    """
    sifted, seen = Sifted(), set()
    for row in rows:
        counts = sifted.counts[row.source]
        counts["read"] += 1
        words = words_of(row.question) or (row.question,)
        refusal = filters.refusal(row) or ("repeated" if words in seen else "")
        match = overlap.find(row.question) if not refusal else None
        if match is not None:
            sifted.matches.append((row, match))
            if match.kind != "variant" or filters.drop_variants:
                refusal = f"{match.kind} benchmark question"
        if refusal:
            counts[refusal] += 1
        else:
            seen.add(words)
            sifted.rows[row.source].append(row)
            counts["left"] += 1
    return sifted


def mix(
    rows: Mapping[str, Sequence[Row]], shares: Mapping[str, float], total: int | None, seed: int
) -> list[Row]:
    """Rows drawn by share and shuffled; without shares all rows in their natural proportions, or
    ``total`` of them.

    Raises:
        ConfigError: a share of no source, a source without a share, or too few rows.
    """
    if not rows:
        raise ConfigError("no row is left: see the filters, and the sources")
    if shares and set(shares) != set(rows):
        raise ConfigError(
            f"--share names {', '.join(sorted(shares))}; the sources are {', '.join(sorted(rows))}:"
            " give each one"
        )
    weights = shares or {source: float(len(found)) for source, found in rows.items()}
    if any(weight <= 0 for weight in weights.values()):
        raise ConfigError(
            "--share: give numbers above 0; a source that is not wanted is left out of --sources"
        )
    most = min(
        len(rows[source]) * sum(weights.values()) / weight for source, weight in weights.items()
    )
    if total is not None and total > most + 1e-9:
        raise ConfigError(
            f"--rows {total}: with these shares and filters there are {int(most + 1e-9)}"
        )
    counts = apportion(weights, int(most + 1e-9) if total is None else total)
    drawn = [
        row
        for source in sorted(counts)
        for row in random.Random(f"{seed}/{source}").sample(
            rows[source], min(counts[source], len(rows[source]))
        )
    ]
    random.Random(seed).shuffle(drawn)
    return drawn


def apportion(weights: Mapping[str, float], total: int) -> dict[str, int]:
    """``total`` whole rows by weight, the remainder to the largest fractions."""
    exact = {source: total * weight / sum(weights.values()) for source, weight in weights.items()}
    counts = {source: int(value) for source, value in exact.items()}
    by_fraction = sorted(exact, key=lambda source: (counts[source] - exact[source], source))
    for source in by_fraction[: total - sum(counts.values())]:
        counts[source] += 1
    return counts
