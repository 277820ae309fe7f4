"""Which training questions are benchmark questions: the same words, nearly the same words, or the
same but for numbers.

    exact     the same words in the same order; case, punctuation and blanks do not count
    near      NEAR or more of the shorter question's word trigrams stand in the longer one, and
              its numbers too
    variant   as near, with other numbers: another exercise of the same kind. Counted, and kept
              unless asked otherwise

A training question that holds a whole benchmark question is near however long it is; one that
stands in a benchmark question is near only if it is half as long or more. Questions of fewer than
SHORTEST words are compared exactly only.

Blind spots: paraphrases, translations, and the same problem told with other names.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.evaluation.data_files import find_files, read_rows
from agentflow_verl.evaluation.leakage import ngrams_of, numbers_in, words
from agentflow_verl.evaluation.questions import BENCHMARKS, normalized, question_text

NEAR = 0.8
SHORTEST = 6
EXAMPLE = re.compile(
    r"Example: for \[.*\Z", re.DOTALL
)  # of the 24-game's file: the same in every question

Words = tuple[str, ...]


@dataclass(frozen=True)
class Match:
    """A training question's closest benchmark question."""

    kind: str  # exact, near or variant
    benchmark: str
    text: str
    share: float


def read_benchmarks(folder: Path) -> dict[str, list[str]]:
    """The questions of the benchmark files that are in ``folder``, by name. Raises ConfigError
    where none is there.
    """
    found = {
        name: [question for question, _ in rows]
        for name in BENCHMARKS
        if (rows := read_benchmark(folder, name))
    }
    if not found:
        raise ConfigError(
            f"{folder}: none of the ten benchmark files is there ({', '.join(BENCHMARKS)}, each"
            " NAME.json)"
        )
    return found


def read_benchmark(folder: Path, name: str) -> list[tuple[str, object]]:
    """Questions and answers of one benchmark's file, rows with attachments too; none where there is
    no file.
    """
    try:
        [path, *_] = find_files(name, folder)
    except ConfigError:
        return []
    questions = []
    for number, row in enumerate(map(normalized, read_rows(path))):
        questions.append((question_of(row, f"{path}, row {number}"), row.get("answer")))
    return questions


def question_of(row: dict[str, Any], where: str) -> str:
    try:
        return EXAMPLE.sub("", question_text(row)).strip()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


class Overlap:
    """An index over benchmark questions."""

    def __init__(self, benchmarks: Mapping[str, Sequence[str]], near: float = NEAR):
        self.near = near
        self.questions = [(name, text) for name, texts in benchmarks.items() for text in texts]
        self.words = [words_of(text) for _, text in self.questions]
        self.runs = [ngrams_of(text) for _, text in self.questions]
        self.exact = {found: number for number, found in enumerate(self.words) if found}
        self.holding: dict[Words, list[int]] = defaultdict(list)
        for number, runs in enumerate(self.runs):
            for run in runs if len(self.words[number]) >= SHORTEST else ():
                self.holding[run].append(number)

    def find(self, question: str) -> Match | None:
        """The benchmark question that ``question`` is most like, where it is like one."""
        own = words_of(question)
        if own in self.exact:
            return self._match("exact", self.exact[own], 1.0)
        if len(own) < SHORTEST:
            return None
        runs = ngrams_of(question)
        shared = Counter(number for run in runs for number in self.holding.get(run, ()))
        found = [
            (self._share(len(runs), number, count), number) for number, count in shared.items()
        ]
        share, number = max(found, default=(0.0, 0))
        if share < self.near:
            return None
        shorter, longer = sorted((own, self.words[number]), key=len)
        kind = (
            "near" if not Counter(numbers_in(shorter)) - Counter(numbers_in(longer)) else "variant"
        )
        return self._match(kind, number, share)

    def _share(self, own: int, number: int, shared: int) -> float:
        theirs = len(self.runs[number])
        return 0.0 if own < theirs / 2 else shared / min(own, theirs)

    def _match(self, kind: str, number: int, share: float) -> Match:
        benchmark, text = self.questions[number]
        return Match(kind, benchmark, text, round(share, 3))


def words_of(text: str) -> Words:
    """Words, numbers and LaTeX commands, without case and width."""
    return tuple(words(unicodedata.normalize("NFKC", text)))
