"""Passages of text: cut from a longer one, searched by BM25 (bm25s: Lù 2024, arXiv:2407.03618),
shown to a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import bm25s

from tool_servers.common.text import cut

_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+")


@dataclass(frozen=True)
class Passage:
    """A piece of text and the title of what it is from."""

    title: str
    text: str

    @property
    def searched(self) -> str:
        """What a query is matched with."""
        return f"{self.title}\n{self.text}"


class Index:
    """A BM25 index of passages, their titles included. Safe to search from several threads."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = tuple(passages)
        self._bm25 = bm25s.BM25()
        self._bm25.index(_tokenize_passages(passages), show_progress=False)

    def search(self, query: str, k: int) -> list[Passage]:
        """At most ``k`` passages that share a word with the query, the best first."""
        [words] = _tokenize([query])
        known = [word for word in words if word in self._bm25.vocab_dict]
        if not known:
            return []
        k = min(k, len(self._passages))
        rows, scores = self._bm25.retrieve([known], k=k, show_progress=False)
        return [self._passages[row] for row, score in zip(rows[0], scores[0]) if score > 0]


def nearest(passages: Sequence[Passage], query: str, k: int) -> list[Passage]:
    """The ``k`` passages nearest the query, the best first; the first ones where none shares a word
    with it.
    """
    found: list[Passage] = []
    if any(_tokenize_passages(passages)):  # bm25s cannot index no words
        found = Index(passages).search(query, k)
    return found or list(passages[:k])


def split(title: str, text: str, most_chars: int) -> list[Passage]:
    """The text as passages of at most ``most_chars`` characters, cut between lines or sentences
    where it can be.
    """
    texts, held = [], ""
    for piece in _pieces(text, most_chars):
        if held and len(held) + 1 + len(piece) > most_chars:
            texts.append(held)
            held = piece
        else:
            held = f"{held}\n{piece}".lstrip("\n")
    texts.append(held)
    return [Passage(title, text) for text in texts if text]


def _pieces(text: str, most_chars: int) -> Iterator[str]:
    """Lines; of a line that is too long its sentences, and of those parts of the longest length."""
    for line in filter(None, map(str.strip, text.splitlines())):
        sentences = [line]
        if len(line) > most_chars:
            sentences = _SENTENCE_END.split(line)
        for sentence in sentences:
            for start in range(0, len(sentence), most_chars):
                yield sentence[start : start + most_chars]


def show(query: str, passages: Sequence[Passage], most_chars: int) -> str:
    """The passages as numbered text, each text cut to ``most_chars`` characters with a visible
    mark.
    """
    if not passages:
        return f"No result for {query!r}. Try other or fewer words."
    blocks = []
    for number, passage in enumerate(passages, start=1):
        blocks.append(f"[{number}] {passage.title}\n{cut(passage.text, most_chars)}")
    return "\n\n".join(blocks)


def _tokenize_passages(passages: Sequence[Passage]) -> list[list[str]]:
    return _tokenize([passage.searched for passage in passages])


def _tokenize(texts: list[str]) -> list[list[str]]:
    """The words of each text, without English stop words."""
    tokens: list[list[str]] = bm25s.tokenize(
        texts, stopwords="en", return_ids=False, show_progress=False
    )
    return tokens
