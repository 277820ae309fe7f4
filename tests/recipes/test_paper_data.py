"""The paper's training data, made from small files in the same schema: nothing of a benchmark gets
in, shares and seed hold.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas
import pytest

from agentflow_verl.rewards.compute import score_answer

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "recipes" / "paper_data" / "prepare.py"
FILES = ROOT.parent / "shared" / "data" / "benchmarks"
AIME = (
    "Alice and Bob play with a stack of 2024 tokens and remove 1 or 4 tokens each turn; for how"
    " many stacks does Bob win?"
)
BAMBOOGLE = (
    "Who was president of the United States in the year that the bank of the city was founded?"
)
TAIL = (
    "When ready, output the final answer enclosed in <answer> and </answer> tags. Do not generate"
    " any content after the </answer> tag."
)
BOB = "In a stack of tokens, what did Bob do?"


def write_lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def nq_rows() -> list[dict]:
    """Sixty that are fine, one of them again, one that is a benchmark's, one that is nearly, one
    without an answer.
    """
    texts = [f"who wrote the book number {n} of the old library" for n in range(60)]
    texts += ["Who wrote the book, number 0, of the old library?", BAMBOOGLE.lower().rstrip("?")]
    texts += [f"Please tell me: {BAMBOOGLE.replace('Who', 'who')} I need it.", "who is it"]
    answers = [[f"Author {n}", f"A. {n}"] for n in range(len(texts) - 1)] + [[]]
    return [
        {"id": f"train_{n}", "question": text, "golden_answers": golds, "metadata": {}}
        for n, (text, golds) in enumerate(zip(texts, answers))
    ]


def deepmath_rows() -> list[dict]:
    """Forty that are fine, a benchmark's question with another number, words from it, one that is
    too long.
    """
    texts = [rf"Evaluate \(\int_0^1 x^{{{n}}}\,dx\)" for n in range(40)] + [
        AIME.replace("2024", "1999"),
        BOB,
        "Long?" * 2000,
    ]
    solutions = dict.fromkeys(("r1_solution_1", "r1_solution_2", "r1_solution_3"), "Long. " * 20)
    known = [
        {
            "final_answer": rf"\dfrac{{1}}{{{n + 1}}}",
            "difficulty": float(n % 10),
            "topic": "Calculus",
        }
        for n in range(len(texts))
    ]
    return [{"question": text, **row, **solutions} for text, row in zip(texts, known)]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper_data")
    (folder / "benchmarks").mkdir()
    rows = {
        "aime24": [{"question": AIME + TAIL, "answer": 809}],
        "bamboogle": [{"question": BAMBOOGLE + TAIL, "answer": ["James Madison"]}],
    }
    for name, table in rows.items():
        (folder / "benchmarks" / f"{name}.json").write_text(json.dumps(table))
    write_lines(folder / "nq.jsonl", nq_rows())
    (folder / "deepmath").mkdir()
    pandas.DataFrame(deepmath_rows()).to_parquet(
        folder / "deepmath" / "train-00000-of-00001.parquet"
    )
    game = {"answer": "8*(1+1+1)", "data_source": "mine", "scorer": "game24"}
    write_lines(
        folder / "mine.jsonl",
        [
            {"question": f"Make 24 of 1, 1, {n} and 8.", "numbers": [1, 1, n, 8], **game}
            for n in range(1, 9)
        ],
    )
    return folder


def prepare(inputs: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    places = (
        "--nq",
        inputs / "nq.jsonl",
        "--deepmath",
        inputs / "deepmath",
        "--benchmarks",
        inputs / "benchmarks",
        "--out",
        out,
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_DATASETS_CACHE": str(inputs / "cache"),
        "HF_HUB_OFFLINE": "1",
    }
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, places), *more],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )


@pytest.fixture(scope="module")
def made(inputs: Path) -> Path:
    done = prepare(inputs, inputs / "out", "--user", str(inputs / "mine.jsonl"))
    assert done.returncode == 0, done.stderr
    return inputs / "out"


def table(folder: Path, split: str = "train") -> list[dict]:
    return pandas.read_parquet(folder / f"{split}.parquet").to_dict("records")


def questions(folder: Path) -> list[str]:
    return [row["prompt"][0]["content"] for row in table(folder)]


def test_everything_usable_is_mixed_and_shuffled(made: Path) -> None:
    sources = [row["data_source"] for row in table(made)]
    assert Counter(sources) == {"nq": 60, "deepmath": 42, "mine": 8}
    assert sources != sorted(sources) and len(set(questions(made))) == len(sources)


def test_no_benchmark_question_is_in_it_and_what_was_dropped_is_listed(made: Path) -> None:
    found = {
        json.loads(line)["kind"]: json.loads(line)
        for line in (made / "overlap.jsonl").read_text().splitlines()
    }
    assert {kind: one["benchmark"] for kind, one in found.items()} == {
        "exact": "bamboogle",
        "near": "bamboogle",
        "variant": "aime24",
    }
    assert not any("bank of the city" in text for text in questions(made))
    assert AIME.replace("2024", "1999") in questions(made)
    report = (made / "report.md").read_text()
    assert "| bamboogle | 1 | 1 | 1 | 0 |" in report and "| aime24 | 1 | 0 | 0 | 1 |" in report
    assert (
        "Not compared, for want of their files: 2wiki, hotpotqa, musique, gaia, amc23, gameof24,"
        " gpqa, medqa" in report
    )


def test_every_row_is_accepted_by_its_own_scorer(made: Path) -> None:
    for row in table(made):
        truth = row["reward_model"]["ground_truth"]
        extra = {**row["extra_info"], "question": row["prompt"][0]["content"]}
        answer = "8*(1+1+1)" if row["data_source"] == "mine" else truth[0]
        expected = 1.0 if row["data_source"] != "mine" or extra["numbers"][2] == 1 else 0.0
        assert score_answer(row["data_source"], answer, truth, extra)[0].value == expected


def test_aime24_is_the_validation_set(made: Path) -> None:
    [row] = table(made, "val")
    assert (
        row["prompt"][0]["content"] == AIME
        and row["data_source"] == "aime24"
        and list(row["reward_model"]["ground_truth"]) == ["809"]
    )


def test_the_seed_decides_and_shares_and_rows_hold(inputs: Path, tmp_path: Path) -> None:
    mixed = ("--share", "nq=3", "--share", "deepmath=1", "--rows", "40")
    for name, seed in (("one", "1"), ("same", "1"), ("other", "2")):
        assert prepare(inputs, tmp_path / name, *mixed, "--seed", seed).returncode == 0
    assert (
        questions(tmp_path / "one") == questions(tmp_path / "same") != questions(tmp_path / "other")
    )
    assert Counter(row["data_source"] for row in table(tmp_path / "one")) == {
        "nq": 30,
        "deepmath": 10,
    }


def test_filters_leave_out_what_they_say(inputs: Path, tmp_path: Path) -> None:
    done = prepare(
        inputs,
        tmp_path,
        "--sources",
        "deepmath",
        "--min-difficulty",
        "3",
        "--max-difficulty",
        "7",
        "--drop-variants",
    )
    assert done.returncode == 0, done.stderr
    assert {row["extra_info"]["difficulty"] for row in table(tmp_path)} == {3.0, 4.0, 5.0, 6.0, 7.0}
    assert all("tokens" not in text for text in questions(tmp_path))


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (("--nq", "/nowhere.jsonl"), "/nowhere.jsonl: there is no such file"),
        (
            ("--nq", "hf://datasets/RUC-NLPIR/FlashRAG_datasets/nq/train.jsonl"),
            "give a local copy with --nq PATH",
        ),
        (("--benchmarks", "/nowhere"), "none of the ten benchmark files"),
        (("--rows", "1000"), "--rows 1000: with these shares and filters there are 102"),
        (("--share", "nq=1"), "the sources are deepmath, nq"),
        (("--min-difficulty", "11", "--sources", "deepmath"), "no row is left"),
    ],
)
def test_what_is_wrong_is_one_line(
    inputs: Path, tmp_path: Path, more: tuple[str, ...], complaint: str
) -> None:
    done = prepare(inputs, tmp_path / "out", *more)
    assert done.returncode == 2 and complaint in done.stderr and "Traceback" not in done.stderr, (
        done.stderr
    )
    assert not (tmp_path / "out" / "train.parquet").exists()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: list, not an object"),
        ('{"question": "Why?", "answer": "so"}', "line 2: no data_source"),
        (
            '{"question": "Why?", "answer": "so", "data_source": "none of ours"}',
            "line 2: no scorer for data source",
        ),
        (
            '{"question": "Make 24.", "answer": "24", "data_source": "mine", "scorer": "game24"}',
            "line 2: the 24-game needs its numbers",
        ),
    ],
)
def test_a_users_row_that_cannot_be_trained_on_is_named(
    inputs: Path, tmp_path: Path, line: str, complaint: str
) -> None:
    (tmp_path / "mine.jsonl").write_text(
        '{"question": "2 + 2?", "answer": 4, "data_source": "maths"}\n' + line + "\n"
    )
    done = prepare(
        inputs, tmp_path / "out", "--sources", "", "--user", str(tmp_path / "mine.jsonl")
    )
    assert done.returncode == 2 and complaint in done.stderr, done.stderr


def test_ones_own_questions_need_no_benchmark_files_and_hold_none_that_is_held_out(
    tmp_path: Path,
) -> None:
    rows = [
        {
            "question": f"How many metres are {n} kilometres long?",
            "answer": f"{n}000",
            "data_source": "maths",
        }
        for n in range(2, 9)
    ]
    write_lines(tmp_path / "mine.jsonl", rows)
    write_lines(tmp_path / "held_out.jsonl", rows[:2])
    places = (
        "--user",
        tmp_path / "mine.jsonl",
        "--held-out",
        tmp_path / "held_out.jsonl",
        "--out",
        tmp_path / "out",
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for sources, code in (("", 0), ("nq", 2)):
        command = [sys.executable, SCRIPT, "--sources", sources, *map(str, places)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        assert done.returncode == code, done.stderr
    assert "--benchmarks FOLDER is missing" in done.stderr
    assert sorted(questions(tmp_path / "out")) == [row["question"] for row in rows[2:]]
    assert [row["prompt"][0]["content"] for row in table(tmp_path / "out", "val")] == [
        row["question"] for row in rows[:2]
    ]


@pytest.mark.skipif(not FILES.is_dir(), reason="the benchmark files are not here")
def test_every_real_benchmark_question_is_found_even_with_words_around_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    from overlap import SHORTEST, Overlap, read_benchmarks, words_of

    benchmarks = read_benchmarks(FILES)
    overlap = Overlap(benchmarks)
    for name, texts in benchmarks.items():
        for text in texts:
            assert overlap.find(f"  {text.lower()} ?!").kind == "exact", (name, text)
            around = overlap.find(
                f"Here is a question for you to solve. {text} Think step by step, then answer."
            )
            assert (
                around is not None
                and (around.kind, around.share) == ("near", 1.0)
                or len(words_of(text)) < SHORTEST
            ), (name, text)


@pytest.mark.skipif(not FILES.is_dir(), reason="the benchmark files are not here")
def test_different_benchmarks_questions_are_seldom_taken_for_each_other(
    monkeypatch: pytest.MonkeyPatch, record_property
) -> None:
    """Questions of one benchmark against all others stand in for training data that has nothing to
    do with them.
    """
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    from overlap import Overlap, read_benchmarks

    benchmarks = read_benchmarks(FILES)
    taken = []
    for name, texts in benchmarks.items():
        others = Overlap({other: table for other, table in benchmarks.items() if other != name})
        taken += [
            (name, text, match)
            for text in texts
            if (match := others.find(text)) is not None and match.kind != "variant"
        ]
    record_property("taken", len(taken))
    assert len(taken) <= 5, taken
