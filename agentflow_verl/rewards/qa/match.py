"""Short-answer question answering: normalised exact match against any gold answer, and token F1.

Exact match after SQuAD (Rajpurkar et al. 2016, arXiv 1606.05250), with the wording of
``wording.py`` in place of its plain normaliser: accents, numbers in words, thousands separators,
units, ranges and dates in the common orders agree. F1 is SQuAD's over the same words, and 0 where
one side is a bare yes or no and the other is not (as HotpotQA does).

Also right: a gold answer without its parenthetical ("582 feet (177 m)"), a bare number where the
gold adds only a unit, "Yes, both are …" for yes, and the same letters with other blanks ("Ye-jin",
"Yejin").

Blind spots, all of them scored 0 unless listed as an alias: other names for the same thing (USA and
United States), part or extension of a name (John de Mol without Jr.), Roman numerals, years in
words, other units (3 mi as 4.8 km), extra words around the answer, dates with an era,
transliterations. "3 and 5" counts as the range 3 to 5.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from typing import Any

from agentflow_verl.rewards.qa.normalize import NUMBER, UNITS, canonical_words, dates_in
from agentflow_verl.rewards.score import GroundTruth, Score, gold_answers, right, wrong

MAX_CHARS = 2_000

PARENTHETICAL = re.compile(r"\s*\([^()]*\)\s*")
VERDICT = re.compile(
    r"\W*(yes|no)\b\s*([,.;:!–—\n-]|$|(?:they|he|she|it|both|neither|the|we|i)\b)", re.IGNORECASE
)
MEASURES = UNITS.keys() - {"bc", "ad"}
VERDICTS = frozenset({"yes", "no"})


def score_short_answer(answer: str, ground_truth: GroundTruth, **extra: Any) -> Score:
    """1 when ``answer`` matches any gold answer exactly after normalisation; ``f1`` is the best
    over them.

    Raises:
        ConfigError: there is no gold answer.
    """
    golds = gold_answers(ground_truth)
    if len(answer) > MAX_CHARS:
        return wrong(f"longer than {MAX_CHARS} characters", 0.0)
    if not answer.strip():
        return wrong("empty answer", 0.0)
    for gold in golds:
        why = agree(answer, gold)
        if why:
            return right(why, 1.0)
    return wrong("matches no gold answer", max(token_f1(answer, gold) for gold in golds))


def agree(answer: str, gold: str) -> str:
    """Why the two are the same answer, or ""."""
    given, wanted = read(answer), read(gold)
    if not wanted.words:
        return "same signs" if answer.strip() == gold.strip() else ""
    if len(wanted.words) == 1 and wanted.words[0] in VERDICTS:
        return "same verdict" if verdict(answer, given.words) == wanted.words[0] else ""
    if wanted.dates and given.dates:
        return "same date" if wanted.dates & given.dates else ""
    if given.words == wanted.words or with_pounds(given.words, wanted.words) == wanted.words:
        return "same words"
    if with_pounds(wanted.words, given.words) == given.words:
        return "same words"
    if given.squashed and given.squashed == wanted.squashed:
        return "same letters"
    if (
        given.words == wanted.words[:1]
        and NUMBER.fullmatch(given.words[0])
        and set(wanted.words[1:]) <= MEASURES
    ):
        return "same number, unit left out"
    shorter = PARENTHETICAL.sub(" ", gold).strip() if "(" in gold else ""
    if shorter and shorter != gold and read(shorter).words:
        return agree(answer, shorter)
    return ""


def with_pounds(words: list[str], others: list[str]) -> list[str]:
    """``words`` with "pounds" read as the money or the weight that ``others`` name."""
    unit = next((name for name in ("gbp", "lb") if name in others), "")
    return [unit if unit and word in ("pound", "pounds") else word for word in words]


class Reading:
    """One answer read once: its words, its letters run together (when it has no digits), its dates."""

    __slots__ = ("words", "squashed", "dates")

    def __init__(self, text: str):
        self.words = canonical_words(text)
        joined = "".join(self.words)
        self.squashed = "" if any(sign.isdigit() for sign in joined) else joined
        self.dates = dates_in(text)


@lru_cache(maxsize=4096)
def read(text: str) -> Reading:
    return Reading(text)


def verdict(answer: str, words: list[str]) -> str:
    """The yes or no that opens ``answer``, or "" when it opens with neither or says both."""
    if words in (["yes"], ["no"]):
        return words[0]
    match = VERDICT.match(answer)
    if not match or VERDICTS <= set(words):
        return ""
    return match.group(1).lower()


def token_f1(answer: str, gold: str) -> float:
    """Harmonic mean of word precision and recall, in [0, 1]."""
    given, wanted = read(answer).words, read(gold).words
    if given != wanted and (VERDICTS & {" ".join(given), " ".join(wanted)}):
        return 0.0
    shared = sum((Counter(given) & Counter(wanted)).values())
    return 2 * shared / (len(given) + len(wanted)) if shared else 0.0
