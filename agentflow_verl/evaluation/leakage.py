"""Removes results of search and fetch tools that contain a benchmark question nearly verbatim, and
counts them.

Benchmarks are published on the web together with their answers. A result counts as such a copy if
it contains a question: for a question of LONG words or more, at least SHARE of its n-grams of WORDS
words, and its numbers in their order (questions of the game of 24 differ in nothing else); a
shorter question must appear word for word. A passage (text between blank lines) that contains a
question is replaced by a note; where only the result as a whole contains one, it is replaced as a
whole. A query that the tool repeats in quotes does not count.

Not detected: questions of fewer than SHORTEST words, which appear in legitimate texts as well (none
in the eight files that were tried is so short), scripts without spaces between words, paraphrases,
translations, numbers written differently, and answers without their question.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from agentflow_verl.core.deadline import Deadline
from agentflow_verl.evaluation.questions import Question
from agentflow_verl.tools.interface import Tools, ToolsWrapper
from agentflow_verl.tools.session import TrajectoryState
from agentflow_verl.tools.types import ToolResult

WORDS = 3
SHARE = 0.75
LONG = 10  # words
SHORTEST = 6
# They make their text from the arguments and bring none from outside.
UNGUARDED = ("python_coder", "base_generator")
NOTE = "[left out: it holds a benchmark question]"

NGram = tuple[str, ...]


@dataclass(frozen=True)
class _Pattern:
    """What a text must contain to count as a copy of one question."""

    ngrams: int  # how many different ones the question has
    verbatim: str  # to be found in the text as it is: the words, of a long question the numbers
    numbers_only: bool


class QuestionIndex:
    """Finds the questions that a text contains, by an inverted index of their n-grams."""

    def __init__(self, questions: Iterable[Question]):
        self._patterns: dict[str, _Pattern] = {}
        self._by_ngram: dict[NGram, list[str]] = defaultdict(list)
        for question in questions:
            if guarded(question.text):
                self._add(question)

    def _add(self, question: Question) -> None:
        ngrams, question_words = ngrams_of(question.text), words(question.text)
        long = len(question_words) >= LONG
        verbatim = numbers_in(question_words) if long else question_words
        self._patterns[question.key] = _Pattern(len(ngrams), spaced(verbatim), long)
        for ngram in ngrams:
            self._by_ngram[ngram].append(question.key)

    def held_in(self, text: str) -> set[str]:
        """Keys of the questions that ``text`` contains nearly verbatim."""
        matched: Counter[str] = Counter()
        for ngram in ngrams_of(text):
            # Not by [], which would add an entry to the default dictionary for every lookup.
            matched.update(self._by_ngram.get(ngram, ()))
        if not matched:
            return set()
        text_words = words(text)
        all_words, numbers = spaced(text_words), spaced(numbers_in(text_words))
        held = set()
        for key, count in matched.items():
            pattern = self._patterns[key]
            searched = numbers if pattern.numbers_only else all_words
            if count >= SHARE * pattern.ngrams and pattern.verbatim in searched:
                held.add(key)
        return held


class GuardedTools(ToolsWrapper):
    """The tools of one trajectory behind the guard.

    ``dropped`` counts results that contained a question, by tool; ``leaked`` has the questions.
    """

    def __init__(self, tools: Tools, index: QuestionIndex):
        super().__init__(tools)
        self.dropped: Counter[str] = Counter()
        self.leaked: set[str] = set()
        self._index = index

    async def call(
        self,
        name: str,
        arguments: dict[str, Any],
        deadline: Deadline,
        state: TrajectoryState | None = None,
    ) -> ToolResult:
        result = await super().call(name, arguments, deadline, state)
        if name in UNGUARDED:
            return result
        leaked = self._index.held_in(without_echo(result.text, arguments))
        if not leaked:
            return result
        self.dropped[name] += 1
        self.leaked |= leaked
        return replace(result, text=self._clean(result.text, arguments))

    def _clean(self, text: str, arguments: Mapping[str, Any]) -> str:
        kept = []
        for passage in text.split("\n\n"):
            leaks = self._index.held_in(without_echo(passage, arguments))
            kept.append(NOTE if leaks else passage)
        cleaned = "\n\n".join(kept)
        # A question may be spread over passages none of which contains enough of it.
        if self._index.held_in(without_echo(cleaned, arguments)):
            return NOTE
        return cleaned


def without_echo(text: str, arguments: Mapping[str, Any]) -> str:
    """``text`` without the arguments in quotes, as tools repeat them in their results.

    A web page that contains a question does not quote it in full. Python's and JSON's quotes, JSON
    with and without escapes, are what the tool servers write.
    """
    for value in arguments.values():
        if isinstance(value, str) and value.strip():
            for quoted in (repr(value), json.dumps(value), json.dumps(value, ensure_ascii=False)):
                text = text.replace(quoted, " ")
    return text


def guarded(question: str) -> bool:
    """Whether a question is long enough to be looked for."""
    return len(words(question)) >= SHORTEST


def spaced(found: list[str]) -> str:
    """Words between single spaces, with one at both ends, so that ``in`` matches whole words; no
    words are contained in every text.
    """
    if not found:
        return ""
    return f" {' '.join(found)} "


def numbers_in(found: Iterable[str]) -> list[str]:
    return [word for word in found if any(map(str.isdigit, word))]


def words(text: str) -> list[str]:
    """In lower case, without HTML tags and punctuation."""
    # Replaced by nothing rather than a space: markup such as <b> may stand inside a word. Bounded
    # in length: a lone "<" of a formula must not swallow the text up to the next ">".
    without_tags = re.sub(r"</?[a-zA-Z][^<>]{0,200}>", "", text)
    return re.findall(r"\w+", without_tags.casefold())


def ngrams_of(text: str) -> set[NGram]:
    """Every n-gram of ``WORDS`` words."""
    found = words(text)
    return {tuple(found[start : start + WORDS]) for start in range(len(found) - WORDS + 1)}
