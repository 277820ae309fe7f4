"""``agentflow judge``: a saved run's answers before a judge, and the table of where it and the
rules differ.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from agentflow_verl.rewards.judge.agreement import Agreement, agreements, to_markdown
from agentflow_verl.trajectories.log import ScoredTrajectory, TrajectoryLog
from agentflow_verl.trajectories.records import Outcome, Trajectory
from tests.rewards.judge.judge_server import JudgeServer

# answer, reward by the rule; the judge looks at the first letter
ANSWERS = [
    ("Mark Twain", 1.0),
    ("Mr Clemens", 0.0),
    ("Clemens", 0.0),
    ("Jane", 0.0),
    ("Twain", 1.0),
    ("", 0.0),
    ("Mark", None),
]


def entry(number: int, answer: str, reward: float | None, **scores: object) -> ScoredTrajectory:
    outcome = Outcome.ANSWERED if reward is not None else Outcome.INFRA_ERROR
    return ScoredTrajectory(
        step=0,
        split="val",
        group=f"g{number}",
        session=0,
        data_source="nq",
        ground_truth=["Mark Twain"],
        reward=reward,
        scores={"scorer": "qa", **scores},
        trajectory=Trajectory(
            id=f"g{number}_0", query="Who wrote it?", answer=answer, outcome=outcome
        ),
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    log = TrajectoryLog(tmp_path / "trajectories")
    for number, (answer, reward) in enumerate(ANSWERS):
        log.write(entry(number, answer, reward))
    return tmp_path


@pytest.fixture
def url() -> Iterator[str]:
    """A judge in a thread, since the command is a process of its own."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    runner = web.AppRunner(JudgeServer().app())
    found: list[str] = []

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        found.append(f"http://127.0.0.1:{runner.addresses[0][1]}/v1")
        ready.set()

    def serve() -> None:
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())

    thread = threading.Thread(target=serve)
    thread.start()
    ready.wait()
    yield found[0]
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def judge(folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "agentflow_verl.cli.main",
        "judge",
        str(folder),
        "--endpoint",
        url,
        "--model",
        "m",
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_run_is_judged_and_reported(run: Path, url: str) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*.jsonl")}
    done = judge(run, url)
    assert done.returncode == 0, done.stderr
    figures = json.loads((run / "judge.json").read_text())["data_sources"]["nq"]
    counts = {
        name: figures[name] for name in ("both", "rule_only", "judge_only", "neither", "count")
    }
    assert counts == {"both": 1, "rule_only": 1, "judge_only": 1, "neither": 2, "count": 5}
    assert "| nq | 5 | 1 | 1 | 1 | 2 | 60.0% | 0.17 |" in done.stdout
    assert "judge only: `Mr Clemens`" in done.stdout and "rule only: `Twain`" in done.stdout
    assert {path: path.read_bytes() for path in run.rglob("*.jsonl")} == before


def test_what_was_judged_needs_no_judge_again(run: Path, url: str) -> None:
    assert judge(run, url).returncode == 0
    first = (run / "judge.md").read_text()
    assert judge(run, "http://127.0.0.1:9/v1").returncode == 0
    assert (run / "judge.md").read_text() == first


def test_a_judge_that_is_not_there_leaves_no_report(run: Path) -> None:
    done = judge(run, "http://127.0.0.1:9/v1")
    assert (
        done.returncode == 3 and "endpoint judge" in done.stderr and not (run / "judge.md").exists()
    )


def test_a_folder_without_trajectories_is_one_line(tmp_path: Path) -> None:
    done = judge(tmp_path, "http://127.0.0.1:9/v1")
    assert (
        done.returncode == 2
        and "no scored trajectories" in done.stderr
        and "Traceback" not in done.stderr
    )


def test_kappa_is_agreement_beyond_chance() -> None:
    assert Agreement(20, 5, 10, 15).kappa == pytest.approx(0.4)
    assert Agreement(0, 0, 3, 7).kappa is None
    assert Agreement(5, 0, 0, 5).kappa == 1.0


def test_only_answers_that_a_judge_saw_are_counted() -> None:
    seen = entry(0, "a", 1.0, rule=0.0, judge=1.0, judged=1.0)
    others = [
        entry(1, "b", 1.0, rule=1.0, judge=1.0, judged=0.0),
        entry(2, "c", 1.0),
        entry(3, "d", None),
    ]
    found = agreements([seen, *others])
    assert found["nq"].count == found["nq"].judge_only == 1
    assert "| nq | 1 | 0 | 0 | 1 | 0 | 0.0% | – |" in to_markdown(found)
