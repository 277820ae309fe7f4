"""From a data source to its scorer, and from a text to verl's reward dict."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.rewards import Score, compute_score, registry, score_answer


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("nq", "qa"),
        ("searchR1_nq", "qa"),
        ("searchR1_2wikimultihopqa", "qa"),
        ("Bamboogle", "qa"),
        ("HuggingFaceH4/MATH-500", "maths"),
        ("openai/gsm8k", "maths"),
        ("DeepMath-103K", "maths"),
        ("mathhard", "maths"),
        ("aime_2024", "maths"),
        ("AIME24", "maths"),
        ("amc23", "maths"),
        ("reasoning_gym/chain_sum", "maths"),
        ("reasoning_gym/countdown", "game24"),
        ("gameof24", "game24"),
        ("gpqa", "choice"),
        ("medqa", "choice"),
        ("DigitalLearningGmbH/MATH-lighteval", "maths"),
        ("maths", "maths"),
        ("qa", "qa"),
    ],
)
def test_a_data_source_has_its_scorer(source: str, name: str) -> None:
    assert registry.scorer_name(source) == name


def test_an_unknown_data_source_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'bambogle', did you mean 'bamboogle'"):
        registry.scorer_name("bambogle")
    with pytest.raises(ConfigError, match="reasoning_gym/knights"):
        registry.scorer_name("reasoning_gym/knights_knaves")
    with pytest.raises(ConfigError, match="unknown scorer 'math', did you mean 'maths'"):
        compute_score("nq", "x", "y", {"scorer": "math"})


@given(st.text(st.characters()))
def test_any_data_source_is_known_or_refused(source: str) -> None:
    try:
        assert registry.scorer_name(source) in registry.SCORERS
    except ConfigError as error:
        assert "scorer" in str(error)


def test_the_shape_is_verls() -> None:
    result = compute_score(
        data_source="nq",
        solution_str="<answer>Paris</answer>",
        ground_truth=["paris"],
        extra_info={"num_turns": None},
        reward_router_address="x",
    )
    assert result == {
        "score": 1.0,
        "acc": 1.0,
        "em": 1.0,
        "f1": 1.0,
        "lenient": 1.0,
        "scorer": "qa",
        "pred": "Paris",
        "reason": "same words",
    }


def test_every_scorer_gives_the_same_columns() -> None:
    results = [
        compute_score("nq", "x", "y"),
        compute_score("aime24", "\\boxed{33}", 33),
        compute_score("medqa", "B", "Rome", {"options": ["Paris", "Rome"]}),
        compute_score("gameof24", "Answer: 8*(1+1+1)", {"numbers": [1, 1, 1, 8]}),
    ]
    assert [result["score"] for result in results] == [0.0, 1.0, 1.0, 1.0]
    assert len({tuple(result) for result in results}) == 1
    for result in results[1:]:  # no other reward is averaged under the names of short answers
        assert result["em"] is result["f1"] is result["lenient"] is None


def test_the_reward_of_short_answers_is_the_figure_that_is_asked_for() -> None:
    def reward(qa_match: str) -> float:
        score, _ = score_answer("nq", "two million dollars", "$2 million", qa_match=qa_match)
        assert (score.em, score.f1, score.lenient) == (0.0, pytest.approx(0.4), 1.0)
        return score.value

    assert reward("lenient") == 1.0
    assert reward("exact") == 0.0
    assert reward("f1") == pytest.approx(0.4)


def test_extra_info_may_hold_anything_a_dataset_holds() -> None:
    extra = {
        "answer": "Rome",
        "ground_truth": "Rome",
        "index": 3,
        "question": "Where?",
        "split": "train",
        7: None,
    }
    assert compute_score("nq", "Paris", "Paris", extra)["score"] == 1.0
    assert compute_score("unheard of", "Paris", "Paris", {"scorer": "qa"})["score"] == 1.0
    assert compute_score("nq", "Paris", "Paris", None)["score"] == 1.0


def test_arrays_from_parquet_are_lists() -> None:
    numpy = pytest.importorskip("numpy")
    assert (
        compute_score("nq", "Paris", numpy.array(["Rome", "Paris"], dtype=object))["score"] == 1.0
    )
    assert compute_score("nq", "Paris", {"target": numpy.array(["Paris"])})["score"] == 1.0
    assert (
        compute_score("medqa", "B", "Rome", {"options": numpy.array(["Paris", "Rome"])})["score"]
        == 1.0
    )
    assert (
        compute_score(
            "game24", "8*(1+1+1)", {"numbers": numpy.array([1, 1, 1, 8]), "target": numpy.int64(24)}
        )["score"]
        == 1.0
    )


def test_a_users_scorer_joins_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "SCORERS", dict(registry.SCORERS))
    monkeypatch.setattr(registry, "DATA_SOURCES", dict(registry.DATA_SOURCES))

    def length(answer: str, ground_truth: str, **extra) -> Score:
        return Score(float(len(answer) == extra["length"]), "length")

    registry.register("length", length, "my/Length-Set")
    assert score_answer("my/length_set", "four", "", {"length": 4}) == (
        Score(1.0, "length"),
        "length",
    )
    with pytest.raises(ConfigError, match="already registered"):
        registry.register("qa", length)


@given(st.text(st.characters()), st.sampled_from(["nq", "medqa", "gameof24"]))
def test_any_response_gets_a_reward(text: str, source: str) -> None:
    extra = {"options": ["Paris", "Rome"], "numbers": [1, 1, 1, 8]}
    result = compute_score(source, text, "Paris", extra)
    assert result["score"] in (0.0, 1.0) and isinstance(result["pred"], str)


def test_rewards_import_no_trainer() -> None:
    heavy = {"verl", "ray", "vllm", "torch", "sympy", "math_verify"}
    code = f"import sys, agentflow_verl.rewards; print(sorted({heavy} & set(sys.modules)))"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert shown.strip() == "[]"
