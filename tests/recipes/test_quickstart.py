"""The quickstart's questions: disjoint, reproducible, and solvable by the steps they come with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from agentflow_verl.rewards.compute import score_answer

RECIPE = Path(__file__).parents[2] / "recipes" / "quickstart"
TOPICS = ("Arts", "Geography", "Physical sciences", "People")


@pytest.fixture(scope="module")
def wiki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough made-up articles for every split."""
    letters = "bcdfghklmnprstvz"
    titles = [f"{a}a{b}o{c}i".capitalize() for a in letters for b in letters for c in letters]
    articles = {
        title: {
            "title": title,
            "description": "A made-up thing",
            "topic": TOPICS[i % len(TOPICS)],
            "extract": f"{title} is made up.",
        }
        for i, title in enumerate(titles)
    }
    path = tmp_path_factory.mktemp("wiki") / "wiki.json"
    path.write_text(json.dumps(articles))
    return path


def make(wiki: Path, out: Path, seed: int, *more: str) -> Path:
    command = [
        sys.executable,
        RECIPE / "data.py",
        "--wiki",
        wiki,
        "--out",
        out,
        "--seed",
        str(seed),
        "--train",
        "40",
        "--val",
        "20",
        *more,
    ]
    subprocess.run(command, check=True, env={"PYTHONPATH": str(RECIPE.parents[1])}, timeout=120)
    return out


@pytest.fixture(scope="module")
def data(wiki: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(wiki, tmp_path_factory.mktemp("data"), seed=0)


def questions(folder: Path, split: str) -> list[str]:
    return [
        prompt[0]["content"] for prompt in pandas.read_parquet(folder / f"{split}.parquet").prompt
    ]


def test_a_kind_that_is_not_trained_is_held_out_all_the_same(
    data: Path, wiki: Path, tmp_path: Path
) -> None:
    folder = make(wiki, tmp_path, 0, "--untrained", "wiki/letters")
    kinds = pandas.read_parquet(folder / "train.parquet").data_source
    assert sorted(set(kinds)) == ["reasoning_gym/chain_sum", "reasoning_gym/gcd", "wiki/topic"]
    assert questions(folder, "val") == questions(data, "val")


def test_no_question_and_no_article_is_in_two_splits(data: Path) -> None:
    warm = [json.loads(line) for line in (data / "warm_start.jsonl").read_text().splitlines()]
    splits = [
        {question["query"] for question in warm},
        set(questions(data, "train")),
        set(questions(data, "val")),
    ]
    assert [len(split) for split in splits] == [2400, 40, 20]
    assert not splits[0] & splits[1] and not splits[0] & splits[2] and not splits[1] & splits[2]
    named = [
        {word for text in split for word in text.replace("?", "").split() if word.endswith("i")}
        for split in splits
    ]
    assert not named[0] & named[1] and not named[0] & named[2] and not named[1] & named[2]


def test_the_same_seed_gives_the_same_questions_and_another_seed_others(
    data: Path, wiki: Path, tmp_path: Path
) -> None:
    assert questions(make(wiki, tmp_path / "same", 0), "train") == questions(data, "train")
    assert questions(make(wiki, tmp_path / "other", 1), "train") != questions(data, "train")


def test_every_row_has_a_rule_that_accepts_its_own_answer(data: Path) -> None:
    for row in pandas.read_parquet(data / "train.parquet").to_dict("records"):
        truth = row["reward_model"]["ground_truth"]
        score, _ = score_answer(row["data_source"], truth, truth, row["extra_info"])
        assert score.value == 1.0


def test_the_last_step_of_a_calculation_prints_the_answer(data: Path) -> None:
    warm = [json.loads(line) for line in (data / "warm_start.jsonl").read_text().splitlines()[:120]]
    for question in warm:
        last = question["steps"][-1]
        if last["tool"] == "python_coder":
            printed = subprocess.run(
                [sys.executable, "-I", "-S", "-c", last["arguments"]["code"]],
                capture_output=True,
                text=True,
                check=True,
            )
            assert printed.stdout.strip() == question["answer"]
