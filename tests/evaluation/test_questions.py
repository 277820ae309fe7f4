"""Benchmark files in every form that the ten have, and the user's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.evaluation.questions import BENCHMARKS, group_of, load
from agentflow_verl.rewards import score_answer
from tests.evaluation.fakes import SUMS, write_questions

FILES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "benchmarks"
ROWS = {
    "bamboogle": 125,
    "2wiki": 200,
    "hotpotqa": 100,
    "musique": 200,
    "aime24": 30,
    "amc23": 40,
    "gameof24": 300,
    "medqa": 300,
}
TAGS = (
    "When ready, output the final answer enclosed in <answer> and </answer> tags. Do not generate"
    " any content after the </answer> tag."
)


def write(folder: Path, name: str, rows: list) -> Path:
    (folder / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder


@pytest.mark.skipif(not FILES.is_dir(), reason="the benchmark files are not here")
@pytest.mark.parametrize("name", ROWS)
def test_a_real_file_is_read_whole_and_its_gold_answers_score_one(name):
    benchmark = load(name, FILES)
    assert (
        len(benchmark.questions)
        == len({question.key for question in benchmark.questions})
        == ROWS[name]
    )
    assert benchmark.left_out == 0
    for question in benchmark.questions:
        assert "<answer>" not in question.text and len(question.text) > 10
        gold = question.answer[0] if isinstance(question.answer, list) else question.answer
        score, _ = score_answer(
            question.data_source,
            str(gold),
            question.answer,
            {**question.extra, "question": question.text},
        )
        assert score.value == 1.0


def test_ten_benchmarks_in_four_groups():
    assert len(set(BENCHMARKS)) == 10
    assert [group_of(name) for name in ("musique", "gaia", "gameof24", "gpqa", "mine")] == [
        "search",
        "agentic",
        "maths",
        "science",
        "own",
    ]


def test_the_instruction_about_tags_is_taken_off(tmp_path):
    row = {
        "pid": "0",
        "query": f"Who was it?{TAGS}",
        "question": f"Who was it?{TAGS}",
        "answer": ["him"],
    }
    [question] = load("bamboogle", write(tmp_path, "bamboogle", [row])).questions
    assert question.text == "Who was it?"


@pytest.mark.parametrize("answer", ["A. lead", "lead", "A"])
@pytest.mark.parametrize(
    "options",
    [
        {"choices": ["lead", "iron", "tin"]},
        {"choices": ["A. lead", "B. iron", "C. tin"]},
        {"options": {"A": "lead", "B": "iron", "C": "tin"}},
    ],
)
def test_gpqas_choices_are_shown_in_an_order_of_their_own_and_mapped_back(
    tmp_path, answer, options
):
    rows = [
        {"id": number, "question": "Which is heaviest?", "answer": answer, **options}
        for number in range(12)
    ]
    orders = set()
    for question in load("gpqa", write(tmp_path, "gpqa", rows)).questions:
        head, *lines = question.text.split("\n")
        shown = dict(line.split(". ") for line in lines)
        assert (
            head == "Which is heaviest?"
            and sorted(shown.values()) == ["iron", "lead", "tin"]
            and list(shown) == ["A", "B", "C"]
        )
        for letter, text in shown.items():
            for given in (letter, text, f"{letter}. {text}"):
                assert score_answer("gpqa", given, question.answer, question.extra)[
                    0
                ].value == float(text == "lead")
        orders.add(tuple(shown.values()))
    assert len(orders) > 3
    again = load("gpqa", tmp_path).questions
    assert [question.text for question in again[:3]] == [
        question.text for question in load("gpqa", tmp_path, limit=3).questions
    ]


def test_options_that_the_question_shows_are_replaced_where_they_stand(tmp_path):
    query = "Which?\nA. lead\nB. iron\nC. tin\nChoose the correct option."
    rows = [
        {
            "id": number,
            "query": query,
            "answer": "lead",
            "options": ["A. lead", "B. iron", "C. tin"],
        }
        for number in range(12)
    ]
    questions = load("medqa", write(tmp_path, "medqa", rows)).questions
    assert len({question.text for question in questions}) > 3
    for question in questions:
        first, *shown, last = question.text.split("\n")
        assert (first, last) == ("Which?", "Choose the correct option.") and sorted(
            line[3:] for line in shown
        ) == ["iron", "lead", "tin"]
        for line in shown:
            assert score_answer("medqa", line[0], question.answer, question.extra)[
                0
            ].value == float(line[3:] == "lead")


def test_gaias_fields_are_found_and_rows_with_attachments_left_out(tmp_path):
    rows = [
        {
            "task_id": "a-1",
            "Question": "How many?",
            "Level": 1,
            "Final answer": "3",
            "file_name": "",
            "data_source": "nq",
        },
        {
            "task_id": "a-2",
            "Question": "What is in it?",
            "Level": 2,
            "Final answer": "4",
            "file_name": "a.png",
            "data_source": "nq",
        },
    ]
    benchmark = load("gaia", write(tmp_path, "gaia", rows))
    [question] = benchmark.questions
    assert (question.id, question.text, question.answer, question.extra["level"]) == (
        "a-1",
        "How many?",
        "3",
        1,
    )
    assert benchmark.left_out == 1


def test_the_references_own_layout_and_json_lines_are_found(tmp_path):
    folder = tmp_path / "aime24" / "data"
    folder.mkdir(parents=True)
    (folder / "data.json").write_text(json.dumps([{"question": "1+1?", "answer": 2}]))
    write_questions(tmp_path, sums=SUMS)
    assert load("aime24", tmp_path).questions[0].answer == 2
    assert [question.key for question in load("sums", tmp_path, limit=2).questions] == [
        "sums/0",
        "sums/1",
    ]


def test_ids_that_repeat_are_not_used(tmp_path):
    rows = [
        {"pid": "7", "idx": 5, "question": "a?", "answer": "1"},
        {"pid": "7", "idx": 6, "question": "b?", "answer": "2"},
    ]
    assert [
        question.id for question in load("amc23", write(tmp_path, "amc23", rows)).questions
    ] == ["5", "6"]
    rows = [
        {"pid": "7", "question": "a?", "answer": "1"},
        {"pid": "7", "question": "b?", "answer": "2"},
    ]
    assert [
        question.id for question in load("amc23", write(tmp_path, "amc23", rows)).questions
    ] == ["0", "1"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "no questions"),
        ("{not json", "neither a JSON list nor JSON lines"),
        (
            '{"question": "a", "answer": 1}\n\n{"question": "b", "answer"',
            "line 3, column .*: not JSON",
        ),
        ('["text"]', "row 0: str, not an object"),
        ('[{"answer": 1}]', "no question; it is looked for under query"),
        ('[{"question": "a?", "answer": []}]', "no answer; it is looked for under answer"),
        (
            '[{"question": "a?", "answer": "1", "data_source": "unheard of"}]',
            "no scorer for data source",
        ),
        (
            (
                '[{"question": "a?", "answer": "no such option", "options": ["x", "y"],'
                ' "data_source": "gpqa"}]'
            ),
            "is none, or more than one",
        ),
    ],
)
def test_a_file_that_cannot_be_judged_is_refused_before_anything_is_asked(tmp_path, content, said):
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(ConfigError, match=said):
        load("mine", tmp_path)


def test_a_missing_file_is_named_with_those_that_are_there(tmp_path):
    write_questions(tmp_path, sums=SUMS)
    with pytest.raises(
        ConfigError, match=r"(?s)benchmark 'bamboogle': none of .*bamboogle\.json.* has sums"
    ):
        load("bamboogle", tmp_path)
