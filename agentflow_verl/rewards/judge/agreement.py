"""How far a judge and the rules agree, by data source: counts, Cohen's kappa, and the answers they
differ on.

Agreement is over the answers that the judge was asked about. In ``fallback`` mode those are only
the answers that the rule refused, so "judge only" is then the one way to differ and kappa says
nothing: it is None.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agentflow_verl.trajectories.log import ScoredTrajectory

SHOWN = 5  # answers of each kind of disagreement


@dataclass(frozen=True)
class Agreement:
    """Of one data source: how many answers both took, only one took, and neither; and some that
    they differ on.
    """

    both: int
    rule_only: int
    judge_only: int
    neither: int
    examples: tuple[dict[str, str], ...] = ()

    @property
    def count(self) -> int:
        return self.both + self.rule_only + self.judge_only + self.neither

    @property
    def rate(self) -> float:
        """Share of answers on which they agree."""
        return (self.both + self.neither) / self.count

    @property
    def kappa(self) -> float | None:
        """Agreement beyond chance (Cohen 1960); None where one of them gave the same verdict
        throughout.
        """
        rule = (self.both + self.rule_only) / self.count
        judge = (self.both + self.judge_only) / self.count
        if rule in (0, 1) or judge in (0, 1):
            return None
        # How often two independent judges with these shares of "right" would agree.
        chance = rule * judge + (1 - rule) * (1 - judge)
        return (self.rate - chance) / (1 - chance)

    def figures(self) -> dict[str, Any]:
        """Everything, for a program."""
        return {**asdict(self), "count": self.count, "rate": self.rate, "kappa": self.kappa}


def agreements(entries: Iterable[ScoredTrajectory]) -> dict[str, Agreement]:
    """By data source, of all trajectories whose scores hold a judge's verdict."""
    by_source: dict[str, list[ScoredTrajectory]] = defaultdict(list)
    for entry in entries:
        by_source[entry.data_source].append(entry)
    found = {}
    for source, members in sorted(by_source.items()):
        agreed = agreement(members)
        if agreed is not None:
            found[source] = agreed
    return found


def agreement(entries: Sequence[ScoredTrajectory]) -> Agreement | None:
    """Of some trajectories; None where the judge was asked about none of them."""
    seen = [entry for entry in entries if entry.reward is not None and entry.scores.get("judged")]
    if not seen:
        return None
    cells: dict[tuple[bool, bool], list[ScoredTrajectory]] = defaultdict(list)
    for entry in seen:
        cells[entry.scores["rule"] >= 1.0, entry.scores["judge"] >= 1.0].append(entry)
    differing = [*cells[True, False][:SHOWN], *cells[False, True][:SHOWN]]
    return Agreement(
        both=len(cells[True, True]),
        rule_only=len(cells[True, False]),
        judge_only=len(cells[False, True]),
        neither=len(cells[False, False]),
        examples=tuple(map(_example, differing)),
    )


def _example(entry: ScoredTrajectory) -> dict[str, str]:
    said = "judge only"
    if entry.scores["rule"] >= 1.0:
        said = "rule only"
    return {
        "question": entry.trajectory.query[-200:],
        "gold": str(entry.ground_truth)[:100],
        "answer": entry.trajectory.answer[:200],
        "said": said,
        "why": str(entry.scores.get("reason", "")),
    }


def to_markdown(found: Mapping[str, Agreement]) -> str:
    """The table, and the answers that they differ on."""
    lines = [
        (
            "| data source | judged | both right | rule only | judge only | both wrong | agreement"
            " | kappa |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    for source, one in found.items():
        if one.kappa is None:
            kappa = "–"
        else:
            kappa = f"{one.kappa:.2f}"
        counts = (one.count, one.both, one.rule_only, one.judge_only, one.neither)
        lines.append(f"| {source} | {' | '.join(map(str, counts))} | {one.rate:.1%} | {kappa} |")
    for source, one in found.items():
        if one.examples:
            lines.append(f"\n{source}, where they differ:\n")
        for example in one.examples:
            lines.append(f"- {shown(example)}")
    return "\n".join(lines) + "\n"


def shown(example: Mapping[str, Any]) -> str:
    """One line, with the model's text as code so that it cannot format the page."""
    answer, gold, why = map(on_one_line, (example["answer"], example["gold"], example["why"]))
    return f"{example['said']}: `{answer}` for `{gold}` ({why})"


def on_one_line(text: Any) -> str:
    """A backquote would end the code that the text stands in."""
    return " ".join(str(text).replace("`", "'").split())
