"""What a run has learnt: a table, ``summary.json``, and the learning curve beside those of the
other runs.

python report.py --run outputs/quickstart/run-0 --out outputs/quickstart --seed 0
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from agentflow_verl.evaluation.report import percent, points
from agentflow_verl.evaluation.statistics import difference
from agentflow_verl.trajectories.log import read_log

FROZEN = 0  # the step of a validation before training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds-install", type=float, help="left out: as reported before")
    parser.add_argument("--seconds-total", type=float)
    given = parser.parse_args()

    held_out = success_by_step(given.run / "trajectories", "val")
    # A run that did not validate before training, or not at all, has no such figure to show.
    frozen = held_out.get(FROZEN, {})
    last = max(held_out, default=FROZEN)
    trained = held_out[last] if last > FROZEN else {}
    table(frozen, trained, last)
    print(f"{'all, change':<28}{gain(given.run / 'trajectories', last):>22}")
    metrics = read_metrics(given.run)
    reported = given.run / "summary.json"
    before = json.loads(reported.read_text()) if reported.exists() else {}
    summary = {
        "frozen_success": rounded(frozen.get("all")),
        "trained_success": rounded(trained.get("all")),
        "steps": last,
        "seconds_install": (
            before.get("seconds_install")
            if given.seconds_install is None
            else given.seconds_install
        ),
        "seconds_total": (
            before.get("seconds_total") if given.seconds_total is None else given.seconds_total
        ),
        "peak_memory_gb": json.loads((given.run / "memory.json").read_text())["peak_memory_gb"],
        "seed": given.seed,
    }
    curves = {
        "held_out": {str(step): round(shares["all"], 4) for step, shares in held_out.items()},
        "training": {
            str(step): round(data["agentflow/success"], 4)
            for step, data in metrics.items()
            if "agentflow/success" in data
        },
        "rollout_actor_prob_diff_max": max(
            (data.get("training/rollout_probs_diff_max", 0.0) for data in metrics.values()),
            default=None,
        ),
    }
    reported.write_text(json.dumps({**summary, **curves}, indent=2) + "\n")
    (given.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    draw(given.out, given.out / "learning_curve.png")
    print(
        f"\ncurve: {given.out / 'learning_curve.png'}\ntrajectories:"
        f" {given.run / 'trajectories'}\nsummary: {json.dumps(summary)}"
    )


def success_by_step(folder: Path, split: str) -> dict[int, dict[str, float]]:
    """Share of rewarded trajectories by step, for all questions and for each kind. Unscored ones do
    not count.
    """
    rewards: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for scored in read_log(folder, split):
        if scored.reward is not None:
            for key in ("all", scored.data_source):
                rewards[scored.step][key].append(scored.reward)
    return {
        step: {key: sum(v) / len(v) for key, v in sorted(kinds.items())}
        for step, kinds in sorted(rewards.items())
    }


def rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def gain(folder: Path, last: int) -> str:
    """The change on the same held-out questions, in points, with its 95% interval."""
    rewards: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for scored in read_log(folder, "val"):
        if scored.reward is not None and scored.step in (FROZEN, last):
            rewards[scored.trajectory.query][scored.step].append(scored.reward)
    changes = []
    for by_step in rewards.values():
        if len(by_step) == 2:
            changes.append(fmean(by_step[last]) - fmean(by_step[FROZEN]))
    if not changes:
        return "–"
    found = difference([changes])
    return f"{points(found.mean)} [{points(found.low)}, {points(found.high)}]"


def table(before: dict[str, float], after: dict[str, float], steps: int) -> None:
    print(f"\n{'held-out questions':<28}{'frozen':>10}{f'{steps} steps':>12}")
    for kind in sorted({*before, *after}, key=lambda kind: (kind == "all", kind)):
        print(f"{kind:<28}{percent(before.get(kind)):>10}{percent(after.get(kind)):>12}")


def read_metrics(run: Path) -> dict[int, dict[str, float]]:
    """verl's file logger, of this run and of the one it went on from."""
    metrics: dict[int, dict[str, float]] = {}
    for file in sorted(run.glob("metrics-*.jsonl")):
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            metrics.setdefault(entry["step"], {}).update(entry["data"])
    return metrics


def draw(out: Path, path: Path) -> None:
    """Training success (mean of five steps) and held-out success of every run in ``out``, a colour
    each.
    """
    figure, axes = plt.subplots(figsize=(7, 4))
    for number, file in enumerate(sorted(out.glob("run-*/summary.json"))):
        curves, name = json.loads(file.read_text()), file.parent.name.removeprefix("run-")
        steps = sorted(map(int, curves["training"]))
        means = [
            sum(curves["training"][str(near)] for near in steps[max(0, i - 4) : i + 1])
            / min(i + 1, 5)
            for i in range(len(steps))
        ]
        axes.plot(steps, means, color=f"C{number}", alpha=0.5)
        held_out = {int(step): share for step, share in curves["held_out"].items()}
        axes.plot(
            list(held_out),
            list(held_out.values()),
            color=f"C{number}",
            marker="o",
            linestyle="none",
            label=f"{name}, held-out",
        )
    axes.set(
        xlabel="step",
        ylabel="success",
        ylim=(0, 1),
        title="Flow-GRPO on the quickstart's questions (lines: training)",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
