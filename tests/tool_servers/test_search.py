"""Corpus and index of wikipedia_search, without a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tool_servers.common.passages import Index, Passage, show
from tool_servers.common.text import cut
from tool_servers.wikipedia_search.corpus import CorpusError, load_corpus

PASSAGES = [
    Passage("Paris", "Paris is the capital of France."),
    Passage("Berlin", "Berlin is the capital of Germany."),
    Passage("Curie", "Marie Skłodowska Curie discovered polonium."),
]


def test_corpus_is_read_in_order_and_blank_lines_are_skipped(corpus: Path) -> None:
    assert [passage.title for passage in load_corpus(corpus)] == [
        "Paris",
        "Berlin",
        "Tuna",
        "Curie",
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: expected an object"),
        ('{"title": "a"}', 'line 2: "text"'),
        ('{"title": 3, "text": "b"}', 'line 2: "title"'),
        ('{"title": "a", "text": "  "}', 'line 2: "text"'),
        (b'{"title": "\xff", "text": "b"}', "line 2: not JSON"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, line: str | bytes, says: str) -> None:
    file = tmp_path / "corpus.jsonl"
    bad = line if isinstance(line, bytes) else line.encode()
    file.write_bytes(b'{"title": "a", "text": "b"}\n' + bad + b"\n")
    with pytest.raises(CorpusError, match=says) as caught:
        load_corpus(file)
    assert str(file) in str(caught.value)


def test_missing_and_empty_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="No such file"):
        load_corpus(tmp_path / "none")
    (tmp_path / "empty").write_text("\n\n")
    with pytest.raises(CorpusError, match="no passage"):
        load_corpus(tmp_path / "empty")


def test_best_passage_comes_first() -> None:
    assert [passage.title for passage in Index(PASSAGES).search("capital of Germany", 2)] == [
        "Berlin",
        "Paris",
    ]


def test_titles_are_searched_and_case_does_not_matter() -> None:
    index = Index([Passage("Mount Everest", "The highest peak."), *PASSAGES])
    assert index.search("EVEREST", 3)[0].title == "Mount Everest"
    assert index.search("skłodowska", 1)[0].title == "Curie"


@pytest.mark.parametrize("query", ["", "   ", "the of and", "zzzqqq", "?!", "\0", "x" * 10_000])
def test_nothing_in_common_finds_nothing(query: str) -> None:
    assert Index(PASSAGES).search(query, 3) == []


def test_one_passage_is_a_corpus() -> None:
    assert Index(PASSAGES[:1]).search("paris", 5) == PASSAGES[:1]


@given(query=st.text(), k=st.integers(1, 9))
def test_any_query_gets_at_most_k_passages_of_the_corpus_once(query: str, k: int) -> None:
    found = INDEX.search(query, k)
    assert len(found) == len(set(found)) <= min(k, len(PASSAGES))
    assert set(found) <= set(PASSAGES)


INDEX = Index(PASSAGES)


def test_passages_are_numbered_and_cut_with_a_mark() -> None:
    text = show("q", [Passage("A", "x" * 30), Passage("B", "short")], 10)
    assert text == f"[1] A\n{'x' * 10} [... 20 characters left out]\n\n[2] B\nshort"
    assert show("gone", [], 10).startswith("No result for 'gone'")


@given(text=st.text(), most=st.integers(1, 50))
def test_cut_never_shows_more_than_asked(text: str, most: int) -> None:
    shown = cut(text, most)
    assert shown == text if len(text) <= most else text.startswith(shown.rpartition(" [... ")[0])


def test_ten_thousand_passages_are_indexed_and_searched(tmp_path: Path) -> None:
    file = tmp_path / "large.jsonl"
    rows = (
        {"title": f"Title {n}", "text": f"word{n} common filler text number {n % 7}"}
        for n in range(10_000)
    )
    file.write_text("\n".join(map(json.dumps, rows)))
    assert Index(load_corpus(file)).search("word4321", 3)[0].title == "Title 4321"
