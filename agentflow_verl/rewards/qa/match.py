"""Short-answer question answering: a lenient match, beside SQuAD's exact match and F1.

``score_short_answer`` always computes all three; ``qa_match`` (``agentflow.reward.qa_match``) says
which is the reward. Reported figures are the exact match and F1 of ``squad.py``.

The lenient match accepts what is equal to any gold answer in the wording of ``normalize.py``:
accents, numbers in words, thousands separators, units, money, ranges and dates in the common orders
agree. Also a gold answer without its parenthetical ("582 feet (177 m)"), a bare number where the
gold adds only a unit, "Yes, both are …" for yes unless it is taken back, and the same letters with
other blanks ("Ye-jin", "Yejin"). A date that may be read in two ways ("4/5/1999") matches neither.

Blind spots, all of them scored 0 unless listed as an alias: other names for the same thing (USA and
United States), part or extension of a name (John de Mol without Jr.), Roman numerals, years in
words, other units (3 mi as 4.8 km), extra words around the answer, dates with an era,
transliterations. "3 and 5" counts as the range 3 to 5.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from agentflow_verl.config.reward import QaMatch
from agentflow_verl.rewards.qa.dates import dates_in
from agentflow_verl.rewards.qa.normalize import NUMBER, UNITS, canonical_words
from agentflow_verl.rewards.qa.squad import squad_exact_match, squad_f1
from agentflow_verl.rewards.score import GroundTruth, Score, gold_answers

MAX_CHARS = 2_000

PARENTHETICAL = re.compile(r"\s*\([^()]*\)\s*")
# "Yes, …" and "No they were not", but neither "No Country for Old Men" nor "No. 5" nor "no-one".
VERDICT = re.compile(
    r"\W*(yes|no)\b(?:\s*(?:$|[,;!–—\n(]|[.:](?!\s?[0-9]))|\s+-\s"
    r"|\s+(?:they|he|she|it|both|neither|the|there|we|i)\b)",
    re.IGNORECASE,
)
# A yes or no that is a statement of its own: "Yes. Actually no", but not "Yes, no doubt".
FURTHER_VERDICT = re.compile(
    r"(?:[,.;:!?–—(\n/-]|\b(?:but|and|or|then|actually))\s?(yes|no)"
    r"(?=\s?(?:$|[,.;:!?–—)\n]|(?:they|he|she|it|there|we)\b))",
    re.IGNORECASE,
)
UNDECIDED = re.compile(
    r"\W*(?:maybe|perhaps|possibly|i (?:cannot|can't|don't|do not) (?:know|say|tell|determine))\b",
    re.IGNORECASE,
)
YES_TAKEN_BACK = re.compile(r"\W*(?:but )?(?:actually )?not\b", re.IGNORECASE)
# An era is no unit: 44 is not "44 BC".
MEASURES = UNITS.keys() - {"bc", "ad"}
VERDICTS = frozenset({"yes", "no"})


def score_short_answer(
    answer: str, ground_truth: GroundTruth, *, qa_match: QaMatch = "lenient", **extra: Any
) -> Score:
    """The reward that ``qa_match`` names, with all three figures; the best over the gold answers.

    Raises:
        ConfigError: there is no gold answer.
    """
    golds = gold_answers(ground_truth)
    if len(answer) > MAX_CHARS:
        return Score(0.0, f"longer than {MAX_CHARS} characters", 0.0, 0.0, 0.0)
    if not answer.strip():
        return Score(0.0, "empty answer", 0.0, 0.0, 0.0)
    why = best_match(answer, golds)
    exact, f1, lenient = squad_exact_match(answer, golds), squad_f1(answer, golds), float(bool(why))
    if qa_match == "f1":
        value, reason = f1, f"token F1 {f1:.2f}"
    elif qa_match == "lenient":
        value, reason = lenient, why
    else:
        value, reason = exact, "equal after SQuAD's normalisation"
    if not value and qa_match != "f1":
        reason = "matches no gold answer"
    return Score(value, reason, em=exact, f1=f1, lenient=lenient)


def best_match(answer: str, golds: list[str]) -> str:
    """Why the answer matches the first gold answer that it does match, or ""."""
    for gold in golds:
        why = lenient_match(answer, gold)
        if why:
            return why
    return ""


def lenient_match(answer: str, gold: str) -> str:
    """Why the two are the same answer, or ""."""
    given, wanted = reading_of(answer), reading_of(gold)
    if not wanted.words:
        if answer.strip() == gold.strip():
            return "same signs"
        return ""
    if len(wanted.words) == 1 and wanted.words[0] in VERDICTS:
        if opening_verdict(answer, given.words) == wanted.words[0]:
            return "same verdict"
        return ""
    # Dates decide alone: one day has many wordings ("4 May", "May 4").
    if wanted.dates and given.dates:
        if wanted.dates & given.dates:
            return "same date"
        return ""
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
    shorter = ""
    if "(" in gold:
        shorter = PARENTHETICAL.sub(" ", gold).strip()
    if shorter and shorter != gold and reading_of(shorter).words:
        return lenient_match(answer, shorter)
    return ""


def with_pounds(words: list[str], others: list[str]) -> list[str]:
    """``words`` with "pounds" read as the money or the weight that ``others`` name."""
    if "gbp" in others:
        unit = "gbp"
    elif "lb" in others:
        unit = "lb"
    else:
        return words
    read = []
    for word in words:
        if word in ("pound", "pounds"):
            word = unit
        read.append(word)
    return read


class Reading:
    """One answer read once: its words, its letters run together (when it has no digits), its
    dates.
    """

    __slots__ = ("words", "squashed", "dates")

    def __init__(self, text: str):
        self.words = canonical_words(text)
        # Not with digits: "1 23" and "12 3" are different numbers.
        joined = "".join(self.words)
        self.squashed = ""
        if not any(map(str.isdigit, joined)):
            self.squashed = joined
        self.dates = dates_in(text)


@lru_cache(maxsize=4096)
def reading_of(text: str) -> Reading:
    return Reading(text)


def opening_verdict(answer: str, words: list[str]) -> str:
    """The yes or no that opens ``answer``, or "" when it opens with neither, says both or takes it
    back.
    """
    if words in (["yes"], ["no"]):
        return words[0]
    match = VERDICT.match(answer)
    if not match or UNDECIDED.match(answer, match.end()):
        return ""
    verdict = match.group(1).lower()
    if verdict == "yes" and YES_TAKEN_BACK.match(answer, match.end()):
        return ""
    said = {verdict, *map(str.lower, FURTHER_VERDICT.findall(answer))}
    if len(said) > 1:
        return ""
    return verdict
