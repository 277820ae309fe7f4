"""``agentflow judge RUN_DIR``: lets a judge score the trajectories that a run has saved, and
reports where it and the rules differ.

The run's log is not changed. Verdicts are saved beside the report, so that an interrupted command
resumes where it stopped.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from agentflow_verl.config.endpoint import EndpointConfig
from agentflow_verl.config.judge import JudgeConfig
from agentflow_verl.core.errors import ConfigError
from agentflow_verl.core.http_session import new_session
from agentflow_verl.evaluation.output import prepare_folder
from agentflow_verl.rewards.judge.agreement import agreements, to_markdown
from agentflow_verl.rewards.judge.client import EXACT, Judge
from agentflow_verl.trajectories.log import ScoredTrajectory, read_log

SPLITS = ("val", "train")


def write(
    folder: Path, config: JudgeConfig, endpoint: EndpointConfig, split: str, out: Path
) -> Path:
    """Judge a run's trajectories, write ``judge.json`` and ``judge.md`` into ``out``, and return
    the latter's path.

    Raises:
        ConfigError: there are no trajectories to judge.
        InfraError: the judge fails to give a verdict. The verdicts so far are kept.
    """
    log = folder / "trajectories"
    if not log.is_dir():
        log = folder
    entries = list(filter(_can_be_judged, read_log(log, split)))
    if not entries:
        raise ConfigError(
            f"{log}/{split}: no scored trajectories that a judge could read; the splits are"
            f" {' and '.join(SPLITS)}"
        )
    prepare_folder("--out", out)
    found = agreements(asyncio.run(judged(entries, config, endpoint)))
    content = {
        "judge": {**config.model_dump(), "endpoint": endpoint.model_dump()},
        "split": split,
        "data_sources": {source: one.figures() for source, one in found.items()},
    }
    (out / "judge.json").write_text(
        json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    page = out / "judge.md"
    page.write_text(
        f"# {endpoint.model} beside the rules, {split}\n\n{to_markdown(found)}", encoding="utf-8"
    )
    return page


async def judged(
    entries: Sequence[ScoredTrajectory], config: JudgeConfig, endpoint: EndpointConfig
) -> list[ScoredTrajectory]:
    """Add a verdict to each entry. The first fault is raised."""
    async with new_session() as session:
        judge = Judge(config, endpoint, session)
        try:
            return list(await asyncio.gather(*(_judge(judge, entry) for entry in entries)))
        finally:
            await judge.close()


def _can_be_judged(entry: ScoredTrajectory) -> bool:
    """Whether there is an answer, and one that rules alone do not already decide exactly."""
    answered = entry.reward is not None and bool(entry.trajectory.answer.strip())
    return answered and entry.scores.get("scorer") not in EXACT


async def _judge(judge: Judge, entry: ScoredTrajectory) -> ScoredTrajectory:
    # A log does not have the options; the question's text lists them in the order the model saw.
    name = str(entry.scores.get("scorer", ""))
    correct, analysis = await judge.verdict(
        name, entry.trajectory.query, entry.trajectory.answer, entry.ground_truth
    )
    scores = {
        **entry.scores,
        "rule": entry.scores.get("rule", entry.reward),
        "judge": float(correct),
        "judged": 1.0,
        "reason": analysis,
    }
    return entry.model_copy(update={"scores": scores})
