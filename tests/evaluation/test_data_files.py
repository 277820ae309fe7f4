"""Data files in the forms that people have: each is read right, or refused in one line."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.evaluation.data_files import decode, find_files, read_rows
from agentflow_verl.evaluation.questions import load
from agentflow_verl.rewards import score_answer
from tests.evaluation.fakes import SUMS, write_questions

UNICODE = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")
texts = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1).filter(str.strip)


def score(question, answer: str) -> float:
    found, _ = score_answer(question.data_source, answer, question.answer, question.scorer_extra)
    return found.value


def only_question(folder: Path, name: str):
    [question] = load(name, folder).questions
    return question


def refusal(folder: Path, name: str) -> str:
    """Why the file is refused: one line."""
    with pytest.raises(ConfigError) as refused:
        load(name, folder)
    message = str(refused.value)
    assert "\n" not in message
    return message


@given(text=texts, encoding=st.sampled_from(UNICODE))
def test_unicode_is_read_whatever_its_encoding(text, encoding):
    line = json.dumps({"question": text, "answer": "1"}, ensure_ascii=False)
    assert decode(line.encode(encoding), Path("mine.jsonl")) == line


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "euc-jp", "shift-jis"])
def test_another_encoding_is_refused_with_the_command_that_converts(tmp_path, encoding):
    text = {"latin-1": "Größe?", "cp1252": "Größe?"}.get(encoding, "水の化学式は何")
    row = json.dumps({"question": text, "answer": "1"}, ensure_ascii=False)
    (tmp_path / "mine.jsonl").write_bytes(row.encode(encoding))
    message = refusal(tmp_path, "mine")
    assert "mine.jsonl is not UTF-8" in message and "iconv -f LATIN1 -t UTF-8" in message


def test_the_parquet_file_of_a_training_run_is_evaluated_as_it_is_trained_on(tmp_path):
    rows = [
        {
            "data_source": "qa",
            "agent_name": "agentflow",
            "prompt": [
                {"role": "system", "content": "Answer in one word."},
                {"role": "user", "content": "Which metal is liquid?"},
            ],
            "reward_model": {"style": "rule", "ground_truth": ["Mercury"]},
            "extra_info": {"index": 0, "answer_aliases": ["Quicksilver"]},
        }
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "val.parquet")
    question = only_question(tmp_path, "val")
    assert question.text == "Instructions: Answer in one word.\n\nWhich metal is liquid?"
    assert question.scorer_extra["question"] == "Which metal is liquid?"
    assert question.data_source == "qa"
    assert score(question, "quicksilver") == score(question, "Mercury") == 1.0
    assert score(question, "iron") == 0.0


@pytest.mark.parametrize("gold", [None, "", [], float("nan"), "?"])
def test_a_training_row_without_a_gold_answer_is_refused(tmp_path, gold):
    row = {
        "data_source": "gsm8k",
        "prompt": "What is 2+3?",
        "reward_model": {"ground_truth": gold},
    }
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    assert "gold answer" in refusal(tmp_path, "mine")


@pytest.mark.parametrize("content", [b"PAR1 but nothing else PAR1", b"", b"{}"])
def test_a_broken_parquet_file_is_refused(tmp_path, content):
    (tmp_path / "val.parquet").write_bytes(content)
    assert "val.parquet is not a readable parquet file" in refusal(tmp_path, "val")


def test_shards_of_a_parquet_file_are_read_in_order(tmp_path):
    for number in range(2):
        rows = [{"id": number, "question": f"{number}+0?", "answer": number}]
        table = pa.Table.from_pylist([{**row, "data_source": "gsm8k"} for row in rows])
        pq.write_table(table, tmp_path / f"test-0000{number}-of-00002.parquet")
    assert [question.text for question in load("test", tmp_path).questions] == ["0+0?", "1+0?"]


def test_gpqas_own_columns(tmp_path):
    with (tmp_path / "gpqa.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["Record ID", "Question", "Correct Answer"]
            + [f"Incorrect Answer {number}" for number in (1, 2, 3)]
        )
        writer.writerow(["rec1", 'Which one, "heavy",\nis it?', "lead", "iron", "tin", "zinc"])
    question = only_question(tmp_path, "gpqa")
    assert question.id == "rec1"
    assert question.text.startswith('Which one, "heavy",\nis it?')
    assert score(question, "lead") == 1.0
    assert [score(question, wrong) for wrong in ("iron", "tin", "zinc")] == [0.0] * 3


@given(question=texts, answer=st.integers())
def test_a_csv_file_gives_back_what_was_written(tmp_path_factory, question, answer):
    text = question.replace("\r", " ").replace("\0", " ").strip()
    if not text or text[0] in "[{":
        return
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerows([["question", "answer"], [text, answer]])
    path = tmp_path_factory.mktemp("csv") / "mine.csv"
    path.write_text(file.getvalue(), encoding="utf-8", newline="")
    assert read_rows(path) == [{"question": text, "answer": str(answer)}]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_file_may_have_another_delimiter(tmp_path, delimiter):
    content = delimiter.join(("question", "answer", "data_source")) + "\n"
    content += delimiter.join(("2+3?", "5", "gsm8k")) + "\n"
    (tmp_path / "mine.csv").write_text(content)
    assert score(only_question(tmp_path, "mine"), "5") == 1.0


def test_a_list_in_a_cell_is_a_list(tmp_path):
    (tmp_path / "nq.csv").write_text(
        "question,golden_answers\nWhich metal?,\"['Mercury', 'Quicksilver']\"\n"
    )
    assert score(only_question(tmp_path, "nq"), "Quicksilver") == 1.0


@pytest.mark.parametrize(
    "content", ["question,answer\n1,2,3\n", 'question,answer\n1,2\n"never closed,2\n']
)
def test_a_broken_csv_file_is_refused_with_its_line(tmp_path, content):
    (tmp_path / "mine.csv").write_text(content)
    assert "line 2" in refusal(tmp_path, "mine")


@pytest.mark.parametrize(
    ("name", "row", "right", "wrong"),
    [
        ("aime24", {"ID": "2024-I-1", "Problem": "What is 2+3?", "Answer": 5}, "5", "6"),
        ("aime24", {"Problem": "What is 2-2?", "Answer": 0}, "0", "1"),
        ("popqa", {"question": "Job?", "possible_answers": '["cook", "chef"]'}, "chef", "judge"),
        (
            "musique",
            {"question": "City?", "answer": "New York", "answer_aliases": ["NYC"]},
            "NYC",
            "LA",
        ),
        (
            "gpqa",
            {"question": "Metal?", "options": ["iron", "zinc"], "answer": "B"},
            "zinc",
            "iron",
        ),
        ("gpqa", {"question": "Metal?", "choices": ["iron", "zinc"], "answer": 0}, "iron", "zinc"),
        (
            "gpqa",
            {
                "question": "Metal?",
                "choices": {"text": ["iron", "zinc"], "label": ["A", "B"]},
                "answerKey": "B",
            },
            "zinc",
            "iron",
        ),
        (
            "gpqa",
            {"question": "Which?\n(A) iron\n(B) zinc", "answer": "B"},
            "B",
            "A",
        ),
        (
            "medqa",
            {"question": "Drug?", "options": {"A": "one", "B": "two"}, "answer_idx": "B"},
            "two",
            "one",
        ),
        (
            "triviaqa",
            {"question": "Metal?", "answer": {"value": "Mercury", "aliases": ["Hg"]}},
            "Hg",
            "Pb",
        ),
        ("gsm8k", {"question": "How many?", "answer": "9 + 9 = 18\n#### 18"}, "18", "9"),
    ],
)
def test_fields_as_data_sets_name_them(tmp_path, name, row, right, wrong):
    (tmp_path / f"{name}.jsonl").write_text(json.dumps(row))
    question = only_question(tmp_path, name)
    assert (score(question, right), score(question, wrong)) == (1.0, 0.0)


def test_a_position_outside_the_options_is_refused(tmp_path):
    row = {"question": "Metal?", "choices": ["iron", "zinc"], "answer": 2}
    (tmp_path / "gpqa.jsonl").write_text(json.dumps(row))
    assert "not a position among 2 options" in refusal(tmp_path, "gpqa")


def test_gaias_hidden_answers_are_refused(tmp_path):
    row = {"task_id": "a", "Question": "How many?", "Final answer": "?"}
    (tmp_path / "gaia.jsonl").write_text(json.dumps(row))
    assert "keeps its answers hidden" in refusal(tmp_path, "gaia")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda rows: {"data": rows},
        lambda rows: {"features": [], "rows": [{"row_idx": 0, "row": row} for row in rows]},
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_rows_under_a_key_are_found(tmp_path, wrap, indent):
    (tmp_path / "sums.json").write_text(json.dumps(wrap(SUMS), indent=indent))
    assert len(load("sums", tmp_path).questions) == len(SUMS)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{\n "question": "a?",\n "answer": 1\n}', "a single object"),
        ("[" * 100_000, "nested too deeply|neither a JSON list"),
        ('[{"question": "a?", "answer": 1' + "0" * 5000 + "}]", "neither a JSON list|digits"),
        ("\x00\x00", "neither a JSON list|no questions"),
    ],
)
def test_odd_json_is_refused(tmp_path, content, said):
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(ConfigError, match=said):
        load("mine", tmp_path)


def test_a_name_with_its_suffix_chooses_between_formats(tmp_path):
    write_questions(tmp_path, sums=SUMS)
    (tmp_path / "sums.csv").write_text("question,answer\n1+1?,2\n")
    assert find_files("sums", tmp_path) == [tmp_path / "sums.jsonl"]
    assert find_files("sums.csv", tmp_path) == [tmp_path / "sums.csv"]


def test_a_folder_that_is_not_there_and_a_fifo_are_refused(tmp_path):
    assert "there is no such folder" in refusal(tmp_path / "none", "mine")
    os.mkfifo(tmp_path / "mine.jsonl")
    assert "has no such files" in refusal(tmp_path, "mine")
