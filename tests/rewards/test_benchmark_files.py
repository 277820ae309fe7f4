"""The scorers against the real benchmark files, where they lie next to the repository
(``../shared``).
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from agentflow_verl.rewards import compute_score, score_answer
from agentflow_verl.rewards.option_texts import comparable_words as words
from agentflow_verl.rewards.score import as_list
from agentflow_verl.rewards.shuffle import shuffle
from tests.rewards.game24.judge24 import brute_force, mutate

FILES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "benchmarks"
NAMES = [
    "bamboogle",
    "2wiki",
    "hotpotqa",
    "musique",
    "gaia",
    "aime24",
    "amc23",
    "gameof24",
    "gpqa",
    "medqa",
]
ANSWERS = ("answer", "Final answer")  # GAIA's file has the second

pytestmark = pytest.mark.skipif(not FILES.is_dir(), reason="the benchmark files are not here")


def rows(name: str) -> list[dict]:
    path = FILES / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"{path.name} is not here: its terms ask not to pass it on")
    table = json.loads(path.read_text(encoding="utf-8"))
    return [{**row, "answer": next(row[key] for key in ANSWERS if key in row)} for row in table]


def extra(row: dict) -> dict:
    options = row.get("options", row.get("choices"))
    return {
        key: value
        for key, value in (("options", options), ("question", row.get("question")))
        if value is not None
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_gold_answer_scores_one(name: str) -> None:
    for row in rows(name):
        for gold in as_list(row["answer"]):
            result = compute_score(
                name, f"Some steps.\n<answer>{gold}</answer>", row["answer"], extra(row)
            )
            assert result["score"] == 1.0, (row["pid"], gold, result["reason"])


@pytest.mark.parametrize("name", NAMES)
def test_no_other_questions_answer_scores_one_but_where_it_holds_this_questions(
    name: str, record_property
) -> None:
    """Every answer of a file against every other question of it. Rows that share an answer are
    counted apart.

    The one kind of exception is multiple choice: another question's longer answer holds the text of
    exactly one of this question's options ("atropine and pralidoxime" where "atropine" is asked),
    which reads as naming it in a sentence.
    """
    table = rows(name)
    taken, same, judged = [], 0, 0
    for row in table:
        texts = {str(gold).strip().lower() for gold in as_list(row["answer"])}
        for other in table:
            answer = str(as_list(other["answer"])[0])
            judged += other is not row
            if other is row or answer.strip().lower() in texts:
                same += other is not row
            elif score_answer(name, answer, row["answer"], extra(row))[0].value:
                taken.append((answer, str(row["answer"])))
    for figure, value in (("judged", judged), ("same_text", same), ("taken", len(taken))):
        record_property(figure, value)
    if name in ("medqa", "gpqa"):
        assert all(f" {words(gold)} " in f" {words(answer)} " for answer, gold in taken), taken
        assert len(taken) <= judged / 5000
    else:
        assert not taken


@pytest.mark.parametrize("name", ["gpqa", "medqa"])
def test_shuffled_options_are_mapped_back(name: str) -> None:
    """The gold option's letter in the order that was shown scores 1, every other letter 0; the text
    scores as before.
    """
    moved = 0
    for number, row in enumerate(rows(name)):
        options = extra(row)["options"]
        text, shown = shuffle(row["query"], options, seed=0, key=f"{name}/{number}")
        moved += shown != "".join(sorted(shown))
        ordered = [str(options[ord(source) - ord("A")]) for source in shown]
        rights = [
            score_answer(name, letter, row["answer"], {"options": options, "shown": shown})[0].value
            for letter in sorted(shown)
        ]
        assert sum(rights) == 1.0
        assert words(str(row["answer"])) in words(ordered[rights.index(1.0)])
        assert (
            score_answer(
                name, str(row["answer"]), row["answer"], {"options": options, "shown": shown}
            )[0].value
            == 1.0
        )
        assert text.split("\nA. ")[0] == row["query"].split("\nA. ")[0]
    assert moved > 0.9 * (number + 1)


def test_mutated_example_solutions_are_judged_as_the_brute_force_judges_them() -> None:
    chance = random.Random(24)
    table = rows("gameof24")
    verdicts = []
    for _ in range(3000):
        row = chance.choice(table)
        text = mutate(chance.choice(row["answer"]), chance)
        expected = brute_force(text, row["question"], 24)
        assert score_answer("gameof24", text, row["answer"], {"question": row["question"]})[
            0
        ].value == float(expected), text
        verdicts.append(expected)
    assert 0 < sum(verdicts) < len(verdicts)
