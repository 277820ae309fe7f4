"""BM25 over passages, held in memory (bm25s: Lù 2024, arXiv:2407.03618)."""

from __future__ import annotations

from collections.abc import Sequence

import bm25s

from tool_servers.wikipedia_search.corpus import Passage


class Index:
    """Title and text of each passage are searched together. Safe to search from several threads."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = tuple(passages)
        self._bm25 = bm25s.BM25()
        self._bm25.index(_tokens([f"{passage.title}\n{passage.text}" for passage in passages]), show_progress=False)

    def search(self, query: str, k: int) -> list[Passage]:
        """At most ``k`` passages that share a word with the query, the best first."""
        words = _tokens([query])[0]
        known = [word for word in words if word in self._bm25.vocab_dict]
        if not known:
            return []
        found, scores = self._bm25.retrieve([known], k=min(k, len(self._passages)), show_progress=False)
        return [self._passages[row] for row, score in zip(found[0], scores[0]) if score > 0]


def _tokens(texts: list[str]) -> list[list[str]]:
    return bm25s.tokenize(texts, stopwords="en", return_ids=False, show_progress=False)
