"""Which scorer judges which data source.

    scorer("qa")                                  the function
    scorer_name("reasoning_gym/chain_sum")        "maths"

A data source is looked up without regard to case, ``-`` and ``_``: by its whole name, then by its
last path part, then by the longest known beginning (``searchR1_nq``, ``aime2025``).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.rewards import choice, gaia
from agentflow_verl.rewards.game24 import check as game24
from agentflow_verl.rewards.math import equality as maths
from agentflow_verl.rewards.qa import match as qa
from agentflow_verl.rewards.score import Score

Scorer = Callable[..., Score]

SCORERS: dict[str, Scorer] = {
    "maths": maths.score_math,
    "qa": qa.score_short_answer,
    "choice": choice.score_choice,
    "game24": game24.score_expression,
    "gaia": gaia.score_gaia,
}

SOURCES_BY_SCORER = {
    "maths": (
        "maths math mathhard math500 math_500 math_lighteval math_dapo math_dapo_reasoning"
        " gsm8k deepmath deepmath_103k aime aime24 aime25 amc amc23 olympiadbench minerva"
        " numina_aops_forum numina_synthetic_math numina_amc_aime numina_synthetic_amc"
        " numina_cn_k12 numina_olympiads reasoning_gym/chain_sum reasoning_gym/basic_arithmetic"
        " reasoning_gym/products reasoning_gym/gcd reasoning_gym/lcm reasoning_gym/leg_counting"
        " reasoning_gym/simple_equations reasoning_gym/fraction_simplification"
        " reasoning_gym/gsm_symbolic"
    ),
    "qa": "qa nq natural_questions triviaqa popqa hotpotqa 2wiki 2wikimultihopqa musique bamboogle",
    "choice": "choice gpqa gpqa_diamond medqa mmlu mmlu_pro",
    "game24": "game24 gameof24 countdown reasoning_gym/countdown",
    "gaia": "gaia",
}
DATA_SOURCES: dict[str, str] = {}
for _name, _sources in SOURCES_BY_SCORER.items():
    DATA_SOURCES.update(dict.fromkeys(_sources.split(), _name))
BEGINNINGS = {
    "searchr1_": "qa", "hotpotqa": "qa", "2wiki": "qa", "musique": "qa", "bamboogle": "qa",
    "aime": "maths",
    "amc": "maths", "deepmath": "maths", "gsm8k": "maths", "numina": "maths", "gpqa": "choice",
    "medqa": "choice",
    "mmlu": "choice", "countdown": "game24", "gameof24": "game24", "game24": "game24",
    "gaia": "gaia",
}  # fmt: skip


def register(name: str, scorer: Scorer, *data_sources: str) -> None:
    """Add a scorer, and the data sources it judges.

    Raises:
        ConfigError: the name is taken by another function.
    """
    if SCORERS.get(name, scorer) is not scorer:
        raise ConfigError(f"a scorer named {name!r} is already registered: choose another name")
    SCORERS[name] = scorer
    for source in (name, *data_sources):
        DATA_SOURCES[canonical_source(source)] = name


def scorer(name: str) -> Scorer:
    """Raises ``ConfigError`` for an unknown name."""
    if name not in SCORERS:
        raise ConfigError(
            f"unknown scorer {name!r}{nearest(name, SCORERS)}; known: {', '.join(sorted(SCORERS))}"
        )
    return SCORERS[name]


def scorer_name(data_source: str) -> str:
    """The name of the scorer of ``data_source``.

    Raises:
        ConfigError: unknown; the message has the nearest known name and what to do.
    """
    whole = canonical_source(str(data_source))
    if whole in DATA_SOURCES:
        return DATA_SOURCES[whole]
    # Reasoning Gym has a hundred tasks of every kind: only those listed have a known scorer.
    if not whole.startswith("reasoning_gym/"):
        last = whole.rsplit("/", 1)[-1]
        if last in DATA_SOURCES:
            return DATA_SOURCES[last]
        beginnings = [start for start in BEGINNINGS if last.startswith(start)]
        if beginnings:
            return BEGINNINGS[max(beginnings, key=len)]
    raise ConfigError(
        f"no scorer for data source {str(data_source)[:80]!r}{nearest(whole, DATA_SOURCES)}; rename"
        " it, or name the scorer in the row's extra_info (scorer: one of"
        f" {', '.join(sorted(SCORERS))})"
    )


def canonical_source(source: str) -> str:
    return source.strip().lower().replace("-", "_").replace(" ", "_")


def nearest(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name[:80], list(known), n=1, cutoff=0.6)
    if found:
        return f", did you mean {found[0]!r}?"
    return ""
