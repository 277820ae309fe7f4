"""The scorers against the real benchmark files, where they lie next to the repository (``../shared``)."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from agentflow_verl.rewards import compute_score, score_answer
from agentflow_verl.rewards.score import as_list
from tests.rewards.judge24 import brute_force, mutate

FILES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "benchmarks"
NAMES = ["bamboogle", "2wiki", "hotpotqa", "musique", "aime24", "amc23", "gameof24", "medqa"]

pytestmark = pytest.mark.skipif(not FILES.is_dir(), reason="the benchmark files are not here")


def rows(name: str) -> list[dict]:
    return json.loads((FILES / f"{name}.json").read_text(encoding="utf-8"))


def extra(row: dict) -> dict:
    return {key: row[key] for key in ("options", "question") if key in row}


@pytest.mark.parametrize("name", NAMES)
def test_every_gold_answer_scores_one(name: str) -> None:
    for row in rows(name):
        for gold in as_list(row["answer"]):
            result = compute_score(name, f"Some steps.\n<answer>{gold}</answer>", row["answer"], extra(row))
            assert result["score"] == 1.0, (row["pid"], gold, result["reason"])


@pytest.mark.parametrize("name", NAMES)
def test_another_questions_answer_scores_one_only_where_it_is_the_same(name: str, record_property) -> None:
    """Two rows of a file may share a gold answer. Apart from those, no other row's answer passes."""
    table = rows(name)[:120]
    taken, same, judged = [], 0, 0
    for row in table:
        texts = {str(gold).strip().lower() for gold in as_list(row["answer"])}
        for other in table:
            answer = str(as_list(other["answer"])[0])
            if other is row:
                continue
            judged += 1
            if answer.strip().lower() in texts:
                same += 1
            elif score_answer(name, answer, row["answer"], extra(row))[0].value:
                taken.append((answer, row["answer"]))
    record_property("judged", judged)
    record_property("same_text", same)
    record_property("taken", len(taken))
    assert len(taken) <= judged / 1000, taken


def test_mutated_example_solutions_are_judged_as_the_brute_force_judges_them() -> None:
    chance = random.Random(24)
    table = rows("gameof24")
    verdicts = []
    for _ in range(3000):
        row = chance.choice(table)
        text = mutate(chance.choice(row["answer"]), chance)
        expected = brute_force(text, row["question"], 24)
        assert score_answer("gameof24", text, row["answer"], {"question": row["question"]})[0].value == float(
            expected
        ), text
        verdicts.append(expected)
    assert 0 < sum(verdicts) < len(verdicts)
