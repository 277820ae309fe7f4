"""Text cut into passages."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from tool_servers.common.passages import Passage, nearest, split


@given(text=st.text(), most=st.integers(20, 200))
def test_no_passage_is_longer_than_asked_and_no_word_is_lost(text: str, most: int) -> None:
    passages = split("t", text, most)
    assert all(0 < len(passage.text) <= most for passage in passages)
    assert re.sub(r"\s+", "", "".join(passage.text for passage in passages)) == re.sub(
        r"\s+", "", text
    )


def test_passages_end_where_sentences_end() -> None:
    text = "One sentence here. Another sentence there. A third."
    assert [passage.text for passage in split("t", text, 45)] == [
        "One sentence here.\nAnother sentence there.",
        "A third.",
    ]


@given(texts=st.lists(st.text(), min_size=1, max_size=5), query=st.text(), k=st.integers(1, 9))
def test_nearest_always_gives_some_of_the_passages(texts: list[str], query: str, k: int) -> None:
    passages = [Passage("", text) for text in texts]
    found = nearest(passages, query, k)
    assert 1 <= len(found) <= k and set(found) <= set(passages)
