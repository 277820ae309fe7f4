"""A real instruct model as all five modules: what is read of what it writes, and what it scores.

    python -m tests.benchmarks.real_model --model FOLDER --quickstart DIR [--data DIR]
        [--questions N]

The questions are the quickstart's 120 for validation (``DIR`` is what recipes/quickstart/data.py
wrote) and the first 20 each of gameof24 and amc23 of ``--data``. Prints one JSON object: shares of
readable plans, valid calls, parsed verdicts and answers that were found, success by kind, seconds.
``--questions`` takes fewer of the quickstart's, evenly over its kinds. The trajectories stay in
``--out``, to be read by eye with ``agentflow view``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas

from agentflow_verl.cli.main import main as agentflow
from agentflow_verl.evaluation.store import open_run
from agentflow_verl.trajectories.log import ScoredTrajectory
from agentflow_verl.trajectories.records import Mistake, Turn

OWN = "quickstart"
BENCHMARKS = ("gameof24", "amc23")
BENCHMARK_QUESTIONS = 20
TIME_BUDGET_S = 3600.0  # a slow machine is no mistake of the model's


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="an instruct model's folder")
    parser.add_argument("--endpoint", help="URL of a server that serves it already")
    parser.add_argument("--quickstart", type=Path, required=True, help="folder of data.py")
    parser.add_argument("--data", type=Path, help="folder with gameof24.json and amc23.json")
    parser.add_argument("--out", type=Path, default=Path("outputs/real_model"))
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--questions", type=int, default=120, help="of the quickstart")
    given = parser.parse_args()
    names = write_questions(given.quickstart, given.data, given.out / "data", given.questions)
    run = given.out / given.model.name
    started = time.monotonic()
    code = agentflow(eval_arguments(given, names, run))
    if code != 0:
        return code
    _, results = open_run(run)
    report = summary(list(results.scored.values()))
    report |= {"faults": results.faults, "seconds": round(time.monotonic() - started)}
    print(json.dumps(report, indent=2, sort_keys=True))
    return 0


def eval_arguments(given: argparse.Namespace, names: Sequence[str], run: Path) -> list[str]:
    """The command line of ``agentflow eval``."""
    corpus = given.quickstart / "corpus.jsonl"
    config = given.out / "agentflow.yaml"
    search = {"args": ["--corpus", str(corpus.resolve()), "--k", "1", "--passage-chars", "50"]}
    served = ("--endpoint", given.endpoint) if given.endpoint else ("--model", str(given.model))
    node = {
        "tools": {"python_coder": {}, "wikipedia_search": search},
        "time_budget_s": TIME_BUDGET_S,
    }
    config.write_text(json.dumps({"agentflow": node}), encoding="utf-8")  # JSON is YAML
    return [
        *("eval", *served, "--config", str(config), "--max-turns", "3"),
        *("--benchmarks", ",".join(names), "--data", str(given.out / "data")),
        *("--max-tokens", "256", "--concurrency", str(given.concurrency), "--out", str(run)),
    ]


def write_questions(quickstart: Path, data: Path | None, to: Path, questions: int) -> list[str]:
    """Benchmark files in ``to``; returns their names."""
    to.mkdir(parents=True, exist_ok=True)
    rows = []
    for row in pandas.read_parquet(quickstart / "val.parquet").to_dict("records"):
        rows.append(
            {
                "question": row["prompt"][-1]["content"],
                "answer": row["reward_model"]["ground_truth"],
                "data_source": row["data_source"],
                "extra_info": row["extra_info"],  # which scorer
            }
        )
    rows.sort(key=lambda row: row["data_source"])
    rows = [rows[index * len(rows) // questions] for index in range(min(questions, len(rows)))]
    lines = [json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows]
    (to / f"{OWN}.jsonl").write_text("".join(lines), encoding="utf-8")
    if data is None:
        return [OWN]
    for name in BENCHMARKS:
        questions = json.loads((data / f"{name}.json").read_text(encoding="utf-8"))
        shortened = json.dumps(questions[:BENCHMARK_QUESTIONS], ensure_ascii=False)
        (to / f"{name}.json").write_text(shortened, encoding="utf-8")
    return [OWN, *BENCHMARKS]


def summary(scored: Sequence[ScoredTrajectory]) -> dict[str, Any]:
    """Shares over all turns and trajectories, and the mean reward by kind of question."""
    turns = [turn for entry in scored for turn in entry.trajectory.turns]
    planned = [turn for turn in turns if turn.plan is not None]
    judged = [turn.verdict for turn in turns if turn.verdict is not None]
    kinds = defaultdict(list)
    for entry in scored:
        kinds[entry.data_source].append(entry.reward or 0.0)
    return {
        "trajectories": len(scored),
        "turns": len(turns),
        "readable_plans": _share([turn.plan is not None for turn in turns]),
        "completed_plans": _share([bool(turn.plan and turn.plan.supplied) for turn in planned]),
        "known_tools": _share([turn.mistake is not Mistake.UNKNOWN_TOOL for turn in planned]),
        "valid_calls": _share([_was_called(turn) for turn in planned if _asked_executor(turn)]),
        "parsed_verdicts": _share([verdict.parsed for verdict in judged]),
        "answers_found": _share([bool(entry.trajectory.answer) for entry in scored]),
        "success": {kind: round(sum(all_) / len(all_), 3) for kind, all_ in sorted(kinds.items())},
    }


def _asked_executor(turn: Turn) -> bool:
    return turn.mistake is not Mistake.UNKNOWN_TOOL


def _was_called(turn: Turn) -> bool:
    return turn.call is not None and turn.mistake is None


def _share(values: Sequence[bool]) -> float | None:
    return round(sum(values) / len(values), 3) if values else None


if __name__ == "__main__":
    sys.exit(main())
