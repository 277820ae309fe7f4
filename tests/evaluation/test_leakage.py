"""The leakage guard: benchmark questions in what tools bring back are dropped and counted, nothing
else is.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.core.deadline import Deadline
from agentflow_verl.evaluation.leakage import NOTE, GuardedTools, QuestionIndex
from agentflow_verl.evaluation.questions import Question, load
from tests.flow.fakes import PYTHON, SEARCH, ScriptedTools

FILES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "benchmarks"
TEXT = "Who was president of the United States in the year that Citibank was founded in New York?"
QUESTION = Question("bamboogle", "0", TEXT, ["james madison"], "bamboogle")
SHORT = Question("bamboogle", "1", "Who wrote Dune?", ["frank herbert"], "bamboogle")
MIDDLE = Question(
    "bamboogle", "2", "Who directed the highest grossing film?", ["James Cameron"], "bamboogle"
)
INDEX = QuestionIndex([QUESTION, SHORT, MIDDLE])


async def called(
    text: str, tool: str = SEARCH.name, query: str = "citibank", specs=(PYTHON, SEARCH)
) -> tuple[str, GuardedTools]:
    tools = GuardedTools(ScriptedTools(text, specs=specs), INDEX)
    result = await tools.call(tool, {"query": query}, Deadline.after(5))
    return result.text, tools


async def test_the_passage_with_the_question_is_left_out_and_counted():
    text, tools = await called(
        f"[1] Banks\nCitibank is a bank.\n\n[2] Data set\nQ: {TEXT} A: james madison\n\n[3]"
        " Madison\nA president."
    )
    assert text == f"[1] Banks\nCitibank is a bank.\n\n{NOTE}\n\n[3] Madison\nA president."
    assert tools.dropped == {SEARCH.name: 1} and tools.leaked == {"bamboogle/0"}


@pytest.mark.parametrize(
    "name", ["google_search", "wikipedia_search", "web_search", "somebody_elses"]
)
async def test_search_and_fetch_are_guarded_and_so_is_any_tool_that_is_not_known(name):
    text, tools = await called(f"Q: {TEXT}", tool=name, specs=(replace(SEARCH, name=name),))
    assert text == NOTE and tools.dropped == {name: 1}


@pytest.mark.parametrize(
    "copy",
    [
        TEXT.upper(),
        TEXT.replace(" ", "\n"),
        TEXT.replace("Citibank", "Citi bank"),
        f"<b>{TEXT.replace('president', '<i>president</i>')}</b>",
        TEXT.replace("?", ""),
    ],
)
async def test_a_copy_need_not_be_exact(copy):
    text, tools = await called(f"Something else. {copy} James Madison.")
    assert text == NOTE and tools.dropped


async def test_a_question_in_pieces_is_found_in_the_whole():
    text, tools = await called(TEXT.replace(" in the year", "\n\nin the year"))
    assert text == NOTE and tools.dropped


@pytest.mark.parametrize(
    "honest",
    [
        "Citibank was founded in New York in 1812, in the year that the war began.",
        "Who wrote Dune? Frank Herbert.",
        "",
    ],
)
async def test_honest_text_is_not_touched(honest):
    text, tools = await called(honest)
    assert text == honest and not tools.dropped


async def test_a_search_for_the_question_itself_is_guarded_too():
    text, _ = await called(f"{TEXT}\njames madison", query=TEXT)
    assert text == NOTE


@pytest.mark.parametrize("quote", [repr, lambda text: f'"{text}"'])
async def test_a_tool_may_repeat_the_query_in_quotes(quote):
    said = f"No result for {quote(TEXT)}. Try other or fewer words."
    text, tools = await called(said, query=TEXT)
    assert text == said and not tools.dropped


async def test_what_python_prints_comes_from_the_planner_not_from_outside():
    text, tools = await called(TEXT, tool=PYTHON.name)
    assert text == TEXT and not tools.dropped


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        ("Q: Who directed the *highest-grossing* film? A: James Cameron", True),
        ("Who directed the highest grossing film of 2009?", True),
        ("The highest grossing film; who directed the highest, the grossing film?", False),
        ("Someone who directed the highest grossing films", False),
    ],
)
async def test_a_question_of_few_words_has_to_stand_word_for_word(text, dropped):
    assert (await called(text))[0] == (NOTE if dropped else text)


@pytest.mark.skipif(not FILES.is_dir(), reason="the benchmark files are not here")
def test_every_question_of_the_real_files_is_found_in_a_page_that_copies_it():
    questions = [
        question
        for path in sorted(FILES.glob("*.json"))
        for question in load(path.stem, FILES).questions
    ]
    index, alone = QuestionIndex(questions), 0
    for question in questions:
        found = index.held_in(
            f"A data set.\n17. {question.text.lower()} – {question.answer}\n18. And so on."
        )
        assert question.key in found, question
        alone += len(found) == 1
    assert len(questions) == 1295 and alone >= 0.95 * len(questions)


@given(st.text(max_size=300))
def test_any_text_can_be_asked_about(text):
    assert INDEX.held_in(text) == set()
    assert INDEX.held_in(f"{text} {TEXT} {text}") == {"bamboogle/0"}
