"""What a run has learnt: a table, ``summary.json``, and the learning curve beside those of the
other runs.

python report.py --run outputs/quickstart/run-0 --out outputs/quickstart
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.evaluation.report import change, percent
from agentflow_verl.evaluation.statistics import difference
from agentflow_verl.trajectories.run_folder import Entry, Run

FROZEN = 0  # the step of a validation before training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds-install", type=float, help="left out: as reported before")
    parser.add_argument("--seconds-total", type=float)
    given = parser.parse_args()

    try:
        run = Run(given.run)
    except ConfigError as wrong:
        parser.error(str(wrong))
    run.refresh()
    given.out.mkdir(parents=True, exist_ok=True)
    held_out = success_by_step(run)
    # A run that did not validate before training, or not at all, has no such figure to show.
    frozen = held_out.get(FROZEN, {})
    last = max(held_out, default=FROZEN)
    trained = held_out[last] if last > FROZEN else {}
    table(frozen, trained, last)
    print(f"{'all, change':<28}{gain(run, last):>22}")
    training = run.curves.get("agentflow/success", {})
    differences = run.curves.get("training/rollout_probs_diff_max", {}).values()
    reported = given.run / "summary.json"
    before = content(reported)
    summary = {
        "frozen_success": rounded(frozen.get("all")),
        "trained_success": rounded(trained.get("all")),
        "steps": max([*training, last]),
        "seconds_install": (
            before.get("seconds_install")
            if given.seconds_install is None
            else given.seconds_install
        ),
        "seconds_total": (
            before.get("seconds_total") if given.seconds_total is None else given.seconds_total
        ),
        "peak_memory_gb": content(given.run / "memory.json").get("peak_memory_gb"),
        "seed": run.option("data", "seed"),
    }
    curves = {
        "held_out": {str(step): round(shares["all"], 4) for step, shares in held_out.items()},
        "training": {str(step): round(success, 4) for step, success in sorted(training.items())},
        "rollout_actor_prob_diff_max": max(differences, default=None),
    }
    reported.write_text(json.dumps({**summary, **curves}, indent=2) + "\n")
    (given.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    # Resolved, so that a run that is named by another path is not drawn twice.
    summaries = {file.resolve() for file in (*given.out.glob("run-*/summary.json"), reported)}
    draw(summaries, given.out / "learning_curve.png")
    print(
        f"\ncurve: {given.out / 'learning_curve.png'}\ntrajectories:"
        f" {given.run / 'trajectories'}\nsummary: {json.dumps(summary)}"
    )


def content(file: Path) -> dict[str, Any]:
    """What a command wrote there; nothing where it was ended before or while it did."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def success_by_step(run: Run) -> dict[int, dict[str, float]]:
    """Share of rewarded held-out trajectories by step, for all questions and for each kind.
    Unscored ones do not count.
    """
    rewards: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for entry, reward in held_out_rewards(run):
        for key in ("all", entry.data_source):
            rewards[entry.step][key].append(reward)
    return {
        step: {key: sum(v) / len(v) for key, v in sorted(kinds.items())}
        for step, kinds in sorted(rewards.items())
    }


def rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def held_out_rewards(run: Run) -> Iterator[tuple[Entry, float]]:
    for entry in run.entries:
        if entry.split == "val" and entry.reward is not None:
            yield entry, entry.reward


def gain(run: Run, last: int) -> str:
    """The change in points with its 95% interval, and the number of questions, of those that both
    validations asked.
    """
    rewards: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for entry, reward in held_out_rewards(run):
        if entry.step in (FROZEN, last):
            rewards[entry.query][entry.step].append(reward)
    changes = []
    for by_step in rewards.values():
        if len(by_step) == 2:
            changes.append(fmean(by_step[last]) - fmean(by_step[FROZEN]))
    if not changes:
        return "–"
    return f"{change(vars(difference([changes])))} of {len(changes)}"


def table(before: dict[str, float], after: dict[str, float], steps: int) -> None:
    print(f"\n{'held-out questions':<28}{'frozen':>10}{f'{steps} steps':>12}")
    for kind in sorted({*before, *after}, key=lambda kind: (kind == "all", kind)):
        print(f"{kind:<28}{percent(before.get(kind)):>10}{percent(after.get(kind)):>12}")


def draw(summaries: Iterable[Path], path: Path) -> None:
    """Training success (mean of five steps) and held-out success of every run, a colour each."""
    figure, axes = plt.subplots(figsize=(8, 4))
    for number, file in enumerate(sorted(summaries)):
        curves, name = content(file), file.parent.name.removeprefix("run-")
        if not {"training", "held_out"} <= set(curves):
            continue
        steps = sorted(map(int, curves["training"]))
        means = [
            sum(curves["training"][str(near)] for near in steps[max(0, i - 4) : i + 1])
            / min(i + 1, 5)
            for i in range(len(steps))
        ]
        axes.plot(steps, means, color=f"C{number}", alpha=0.4, linewidth=1)
        held_out = {int(step): share for step, share in curves["held_out"].items()}
        axes.plot(
            list(held_out),
            list(held_out.values()),
            color=f"C{number}",
            marker="o",
            linestyle="--",
            label=name,
        )
    axes.set(
        xlabel="step",
        ylabel="success",
        ylim=(0, 1),
        title="Flow-GRPO on the quickstart's questions (dots: held-out, thin lines: in training)",
    )
    axes.title.set_fontsize("medium")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
