"""Passages of text: cut from a longer one, searched by BM25 (bm25s: Lù 2024, arXiv:2407.03618),
shown to a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import bm25s

_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+")


@dataclass(frozen=True)
class Passage:
    title: str
    text: str


class Index:
    """Title and text of each passage are searched together. Safe to search from several threads."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = tuple(passages)
        self._bm25 = bm25s.BM25()
        self._bm25.index(
            _tokens([f"{passage.title}\n{passage.text}" for passage in passages]),
            show_progress=False,
        )

    def search(self, query: str, k: int) -> list[Passage]:
        """At most ``k`` passages that share a word with the query, the best first."""
        words = _tokens([query])[0]
        known = [word for word in words if word in self._bm25.vocab_dict]
        if not known:
            return []
        found, scores = self._bm25.retrieve(
            [known], k=min(k, len(self._passages)), show_progress=False
        )
        return [self._passages[row] for row, score in zip(found[0], scores[0]) if score > 0]


def nearest(passages: Sequence[Passage], query: str, k: int) -> list[Passage]:
    """The ``k`` passages nearest the query, the best first; the first ones where none shares a word
    with it.
    """
    if not any(
        _tokens([f"{passage.title}\n{passage.text}" for passage in passages])
    ):  # bm25s cannot index no words
        return list(passages[:k])
    return Index(passages).search(query, k) or list(passages[:k])


def split(title: str, text: str, most_chars: int) -> list[Passage]:
    """The text as passages of at most ``most_chars`` characters, cut between lines or sentences
    where it can be.
    """
    passages, held = [], ""
    for piece in _pieces(text, most_chars):
        if held and len(held) + 1 + len(piece) > most_chars:
            passages.append(held)
            held = piece
        else:
            held = f"{held}\n{piece}" if held else piece
    return [Passage(title, passage) for passage in (*passages, held) if passage]


def _pieces(text: str, most_chars: int) -> Iterator[str]:
    for line in filter(None, map(str.strip, text.splitlines())):
        for sentence in [line] if len(line) <= most_chars else _SENTENCE_END.split(line):
            yield from (
                sentence[start : start + most_chars]
                for start in range(0, len(sentence), most_chars)
            )


def show(query: str, passages: Sequence[Passage], most_chars: int) -> str:
    """The passages as numbered text, each text cut to ``most_chars`` characters with a visible
    mark.
    """
    if not passages:
        return f"No result for {query!r}. Try other or fewer words."
    return "\n\n".join(
        f"[{number}] {passage.title}\n{cut(passage.text, most_chars)}"
        for number, passage in enumerate(passages, start=1)
    )


def cut(text: str, most: int) -> str:
    """``text``, or its first ``most`` characters and how many were left out."""
    return (
        text
        if len(text) <= most
        else f"{text[:most].rstrip()} [... {len(text) - most} characters left out]"
    )


def _tokens(texts: list[str]) -> list[list[str]]:
    return bm25s.tokenize(texts, stopwords="en", return_ids=False, show_progress=False)
