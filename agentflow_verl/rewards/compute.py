"""From a generator's text to a reward: extract the answer by the one rule, score it by the data
source's scorer.

``compute_score`` has the signature that verl's ``reward.custom_reward_function`` calls:

    reward.custom_reward_function.path=pkg://agentflow_verl.rewards.compute
    reward.custom_reward_function.name=compute_score
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentflow_verl.config.reward import QaMatch
from agentflow_verl.flow.answer import extract_answer
from agentflow_verl.rewards.registry import scorer, scorer_name
from agentflow_verl.rewards.score import GroundTruth, Score, as_list, gold_answers

RESERVED = frozenset({"answer", "ground_truth", "qa_match"})
ALIAS_KEYS = ("answer_aliases", "aliases")


def score_answer(
    data_source: str,
    answer: str,
    ground_truth: GroundTruth,
    extra_info: Mapping[str, Any] | None = None,
    *,
    qa_match: QaMatch | None = None,
) -> tuple[Score, str]:
    """Score an already extracted answer; returns the score and the scorer's name.

    ``qa_match`` is the reward of short answers (``config/reward.py``; the lenient match where
    None). ``extra_info["scorer"]`` names the scorer where the data source alone does not.

    Raises:
        ConfigError: unknown data source or scorer, or a row without what the scorer needs.
        InfraError: a scorer's helper process cannot run. Never turned into a score of 0.
    """
    extra = {}
    for key, value in (extra_info or {}).items():
        if value is not None:  # parquet gives each row the keys of all rows
            extra[str(key)] = value
    name = extra.get("scorer") or scorer_name(data_source)
    judge = scorer(name)
    context = {key: value for key, value in extra.items() if key not in RESERVED}
    context["data_source"] = str(data_source)
    if qa_match is not None and name == "qa":
        context["qa_match"] = qa_match
    golds = with_aliases(ground_truth, extra)
    return judge(answer, golds, **context), name


def with_aliases(ground_truth: GroundTruth, extra: Mapping[str, Any]) -> GroundTruth:
    """The gold answer and the further accepted ones that a row lists in its ``extra_info``."""
    aliases = []
    for key in ALIAS_KEYS:
        aliases += as_list(extra.get(key, []))
    if not aliases:
        return ground_truth
    return [*gold_answers(ground_truth), *map(str, aliases)]


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: GroundTruth,
    extra_info: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> dict[str, Any]:
    """The reward of one response, in verl's shape.

    ``score`` is the outcome reward and ``acc`` the same; ``em``, ``f1`` and ``lenient`` are the
    figures of short answers, None elsewhere, so that no other reward is averaged under their names;
    ``scorer`` names the rule; ``pred`` is the extracted answer, which verl's majority vote reads;
    ``reason`` what decided. Other keywords that verl passes (a judge's address and tokenizer) are
    not used.

    Raises:
        ConfigError, InfraError: as ``score_answer``.
    """
    answer = extract_answer(solution_str)
    score, name = score_answer(data_source, answer, ground_truth, extra_info)
    return {
        "score": score.value,
        "acc": score.value,
        **score.details,
        "scorer": name,
        "pred": answer[:500],
    }
