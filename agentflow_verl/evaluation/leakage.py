"""Drops what search and fetch tools bring back where it holds a benchmark question nearly verbatim,
and counts it.

Benchmarks are on the web with their answers. A result that holds a question is taken for such a
copy: of a question of LONG words or more, SHARE of its runs of WORDS words stand in the result, and
its numbers in their order (the questions of the 24-game differ in nothing else); a shorter question
stands there word for word. A passage (text between blank lines) that holds one is replaced by a
note; a result that holds one only as a whole is replaced as a whole. A query that the tool repeats
in quotes does not count.

Blind spots: questions under SHORTEST words, which stand in honest texts too (no question of the
eight files that were tried is so short), scripts without blanks, paraphrases, translations, numbers
in another writing, answers without their question.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
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
UNGUARDED = (
    "python_coder",
    "base_generator",
)  # make their text from the arguments, bring none from outside
NOTE = "[left out: it holds a benchmark question]"

Run = tuple[str, ...]


class QuestionIndex:
    """Which questions a text holds."""

    def __init__(self, questions: Iterable[Question]):
        self._asked: dict[
            str, tuple[int, bool, str]
        ] = {}  # how many runs, whether long, and what has to stand as it is
        self._with: dict[Run, list[str]] = defaultdict(list)
        for question in questions:
            if guarded(question.text):
                runs, asked = runs_of(question.text), words(question.text)
                long = len(asked) >= LONG
                self._asked[question.key] = (
                    len(runs),
                    long,
                    spaced(numbers_in(asked) if long else asked),
                )
                for run in runs:
                    self._with[run].append(question.key)

    def held_in(self, text: str) -> set[str]:
        """Keys of the questions that ``text`` holds nearly verbatim."""
        found = Counter(key for run in runs_of(text) for key in self._with.get(run, ()))
        said = words(text) if found else []
        as_said = {True: spaced(numbers_in(said)), False: spaced(said)}
        return {key for key, count in found.items() if self._holds(key, count, as_said)}

    def _holds(self, key: str, count: int, said: Mapping[bool, str]) -> bool:
        runs, long, needed = self._asked[key]
        return count >= SHARE * runs and needed in said[long]


class GuardedTools(ToolsWrapper):
    """The tools of one trajectory behind the guard. ``dropped`` counts leaking results by tool."""

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
        passages = text.split("\n\n")
        kept = [
            NOTE if self._index.held_in(without_echo(passage, arguments)) else passage
            for passage in passages
        ]
        cleaned = "\n\n".join(kept)
        return NOTE if self._index.held_in(without_echo(cleaned, arguments)) else cleaned


def without_echo(text: str, arguments: Mapping[str, Any]) -> str:
    """``text`` without the arguments in quotes, as tools repeat them; a page that holds a question
    has none around it.
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
    return f" {' '.join(found)} " if found else ""


def numbers_in(found: Iterable[str]) -> list[str]:
    return [word for word in found if any(sign.isdigit() for sign in word)]


def words(text: str) -> list[str]:
    """In small letters, without HTML tags and signs."""
    return re.findall(r"\w+", re.sub(r"</?[a-zA-Z][^<>]{0,200}>", "", text).casefold())


def runs_of(text: str) -> set[Run]:
    """Every run of ``WORDS`` words."""
    found = words(text)
    return {tuple(found[start : start + WORDS]) for start in range(len(found) - WORDS + 1)}
