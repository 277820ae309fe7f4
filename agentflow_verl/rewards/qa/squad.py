"""The standard figures of short-answer benchmarks: SQuAD's exact match and token F1.

Rajpurkar et al. 2016 (arXiv 1606.05250), section 6.1, and the official evaluation script: lower
case, without punctuation, articles and further blanks; the best value over the gold answers. F1 is
0 where one side is a bare yes or no and the other is not, as in HotpotQA's script.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable

ARTICLES = re.compile(r"\b(?:a|an|the)\b")
WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
VERDICTS = frozenset({"yes", "no", "noanswer"})


def squad_normalize(text: str) -> str:
    bare = text.lower().translate(WITHOUT_PUNCTUATION)
    return " ".join(ARTICLES.sub(" ", bare).split())


def squad_exact_match(answer: str, golds: Iterable[str]) -> float:
    """1.0 when the normalised answer equals any normalised gold answer, else 0.0."""
    return float(any(same_normalized(answer, gold) for gold in golds))


def same_normalized(answer: str, gold: str) -> bool:
    """Equal after normalisation; as they stand where the gold answer normalises to nothing."""
    wanted = squad_normalize(gold)
    if wanted:
        return squad_normalize(answer) == wanted
    return answer.strip() == gold.strip()


def squad_f1(answer: str, golds: Iterable[str]) -> float:
    """The best harmonic mean of token precision and recall over the gold answers, in [0, 1]."""
    return max((token_f1(answer, gold) for gold in golds), default=0.0)


def token_f1(answer: str, gold: str) -> float:
    if same_normalized(answer, gold):
        return 1.0
    bare_answer, bare_gold = squad_normalize(answer), squad_normalize(gold)
    if VERDICTS & {bare_answer, bare_gold}:
        return 0.0
    given, wanted = bare_answer.split(), bare_gold.split()
    # As multisets: a word counts as often as both have it.
    shared = sum((Counter(given) & Counter(wanted)).values())
    if shared:
        return 2 * shared / (len(given) + len(wanted))
    return 0.0
