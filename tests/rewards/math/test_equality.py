"""Maths answers: numbers exactly, expressions by algebra, and no way to hang or crash the
scorer.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow_verl.core.errors import ConfigError, InfraError
from agentflow_verl.rewards.math import equality as maths
from agentflow_verl.rewards.math import latex
from agentflow_verl.rewards.math import worker_pool as algebra
from agentflow_verl.rewards.math.numbers import parse_quantity

SAME = [
    ("276 and 98 have a GCD of 2", "2"),
    ("2 is the greatest common divisor of 276 and 98.", "2"),
    ("Both give us a total of 1,204.", "1204"),
    ("33", "33"),
    ("33.0", "33"),
    ("033", "33"),
    ("+33", "33"),
    ("33.", "33"),
    ("$33$", "33"),
    ("\\boxed{33}", "33"),
    ("= 33", "33"),
    ("1,000", "1000"),
    ("1{,}000", "1000"),
    ("12,345,678.50", "12345678.5"),
    ("1 000 000", "1000000"),
    ("-5", "\u22125"),
    (".5", "0.50"),
    ("$1,234.50", "1234.5"),
    ("\\$72,641", "72641"),
    ("1.5e3", "1500"),
    ("1.5\\times 10^{3}", "1500"),
    ("1.5 × 10^3", "1500"),
    ("2 million", "2000000"),
    ("1/2", "0.5"),
    ("\\frac{1}{2}", "1/2"),
    ("\\dfrac12", "0.5"),
    ("-\\tfrac{3}{4}", "-0.75"),
    ("5 1/2", "5.5"),
    ("5\\frac{1}{2}", "11/2"),
    ("6/4", "3/2"),
    ("0.333333", "1/3"),
    ("50%", "50"),
    ("50\\%", "0.5"),
    ("0.5", "50\\%"),
    ("12 cm", "12"),
    ("12\\text{ cm}", "12 cm"),
    ("12 centimeters", "12cm"),
    ("90^\\circ", "90"),
    ("90 degrees", "90°"),
    ("27 miles from A", "27"),
    ("10 m/s", "10"),
    ("2\\sqrt{3}\\text{ cm}", "\\sqrt{12}"),
    ("\\sqrt{12} cm", "2\\sqrt{3}\\,\\mathrm{cm}"),
    ("$\\frac{3}{4}$ of the tank", "3/4"),
    ("x = 5", "5"),
    ("5", "x=5"),
    ("m+n=33", "33"),
    ("2\\sqrt{3}", "\\sqrt{12}"),
    ("2*sqrt(3)", "\\sqrt{12}"),
    ("√2/2", "\\frac{1}{\\sqrt{2}}"),
    ("3pi", "3\\pi"),
    ("2π", "2\\pi"),
    ("x**2-1", "(x-1)(x+1)"),
    ("1+x^2", "x²+1"),
    ("\\sin^2 x+\\cos^2 x", "1"),
    ("\\log_2 8", "3"),
    ("\\ln e^2", "2"),
    ("\\binom{5}{2}", "10"),
    ("5!", "120"),
    ("2^{100}", "1267650600228229401496703205376"),
    ("{2,1}", "\\{1,2\\}"),
    ("3, -3", "\\pm 3"),
    ("(1, 2)", "(1,2)"),
    ("(-∞, 3) ∪ (3, ∞)", "(-\\infty,3)\\cup(3,\\infty)"),
    ("3<x", "x>3"),
    ("3:4", "3/4"),
    ("y = 1+2x", "y=2x+1"),
    ("\\text{Monday}", "Monday"),
    ("\\infty", "∞"),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{bmatrix}1\\\\2\\end{bmatrix}"),
]

DIFFERENT = [
    ("276 and 98 do not have a GCD of 2", "2"),
    ("If 276 and 98 have a GCD of 2", "2"),
    ("2 is the sum of 1 and 1 and the answer is 3", "2"),
    ("The numbers have a GCD of 2 or 3", "2"),
    ("2 is the result or 3 is", "2"),
    ("34", "33"),
    ("-33", "33"),
    ("33.01", "33"),
    ("330", "33"),
    ("1,00", "100"),
    ("33 or 34", "33"),
    ("33, 34", "33"),
    ("not 33", "33"),
    ("3x", "3"),
    ("3xy", "3"),
    ("3m", "3"),
    ("3 pi", "3"),
    ("5!", "5"),
    ("5 squared", "5"),
    ("2 hundred", "2"),
    ("12 km", "12 cm"),
    ("2\\sqrt{3}\\text{ km}", "2\\sqrt{3}\\text{ cm}"),
    ("3", "3m"),
    ("0.5%", "0.5"),
    ("50", "0.5"),
    ("0.33", "1/3"),
    ("0.333334", "1/3"),
    ("3.14", "\\pi"),
    ("9.4248", "3\\pi"),
    ("1/3", "1/2"),
    ("5 1/2", "5/2"),
    ("51/2", "5.5"),
    ("1/0", "1"),
    ("1/0", "0"),
    ("\\sqrt{3}", "3"),
    ("x+1", "x"),
    ("x^2", "y^2"),
    ("[0,1)", "[0,1]"),
    ("(1,2)", "(2,1)"),
    ("\\{1,2\\}", "\\{1,2,3\\}"),
    ("-\\infty", "\\infty"),
    ("x<3", "x>3"),
    ("2^{10}", "1000"),
    ("10^{10^{10}}", "10"),
    ("1e999", "1"),
    ("", "33"),
    (" ", "33"),
    ("None", "33"),
    ("\\frac{1}{", "1"),
    ("0.0000001", "0.0000002"),
    ("1.5e3", "15000"),
    ("ten", "11"),
    ("more than 33", "33"),
    ("33 less 1", "33"),
]


PATHOLOGICAL = [
    "9^{9^{9^9}}",
    "((((10!)!)!)!)!",
    "(x+y+z+w+a+b)^{300}",
    "\\sum_{n=1}^{9999}\\frac{1}{n^n}",
    "\\frac{" * 20 + "1" + "}{2}" * 20,
]


@pytest.mark.parametrize(("answer", "gold"), SAME)
def test_the_same_value_is_right(answer: str, gold: str) -> None:
    assert maths.score_math(answer, gold).value == 1.0, maths.score_math(answer, gold).reason


@pytest.mark.parametrize(("answer", "gold"), DIFFERENT)
def test_another_value_is_wrong(answer: str, gold: str) -> None:
    assert maths.score_math(answer, gold).value == 0.0


def test_gold_answers_come_in_every_form_of_a_dataset() -> None:
    assert maths.score_math("33", 33).value == maths.score_math("33", 33.0).value == 1.0
    assert (
        maths.score_math("33", ["32", "33"]).value
        == maths.score_math("33", {"answer": 33}).value
        == 1.0
    )
    with pytest.raises(ConfigError, match="no gold answer"):
        maths.score_math("33", [])


@given(st.fractions(max_denominator=10**6), st.integers(0, 3))
def test_any_writing_of_a_fraction_is_read_exactly(value: Fraction, zeros: int) -> None:
    assert parse_quantity(f"\\frac{{{value.numerator}}}{{{value.denominator}}}").value == value
    if value.denominator == 1:
        assert (
            parse_quantity(f"{value.numerator:,}" + "." * bool(zeros) + "0" * zeros).value == value
        )


@given(st.integers(), st.integers())
def test_two_integers_agree_only_when_equal(one: int, other: int) -> None:
    assert maths.score_math(f"{one:,}", other).value == float(one == other)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(), max_size=80))
def test_no_text_breaks_the_scorer(text: str) -> None:
    assert maths.score_math(text, "\\frac{355}{113}+x").value in (0.0, 1.0)


LATEX = st.sampled_from(
    "\\frac \\sqrt { } ( ) [ ] ^ _ ! 2 7 x y + - , = < \\pi \\cup \\{ \\} \\begin{pmatrix} &"
    " \\\\ | %".split()
)


@settings(max_examples=60, deadline=None)
@given(st.lists(LATEX, max_size=12).map(" ".join))
def test_no_latex_breaks_the_scorer(text: str) -> None:
    assert maths.score_math(text, "x+1").value in (0.0, 1.0)


@pytest.mark.parametrize(
    "piece", ["9", "(", "{", "\\frac{", "^", "!", " ", "1,000", "\\boxed{", "$", "\ud800", "x+"]
)
def test_a_megabyte_is_refused_within_a_second(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    start = time.process_time()
    assert maths.score_math(text, "33").value == 0.0
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize("hostile", PATHOLOGICAL)
def test_a_pathological_expression_is_given_up(hostile: str) -> None:
    start = time.monotonic()
    verdict = maths.score_math(hostile, "7")
    assert verdict.value == 0.0
    assert verdict.reason in (
        "different expressions",
        "a number too large to compare",
        "the answer is no expression",
    ) or verdict.reason.startswith("comparing took")
    assert time.monotonic() - start < algebra.WALL_SECONDS
    assert maths.score_math("\\sqrt{8}", "2\\sqrt{2}").value == 1.0  # and the next one is judged


def test_model_text_is_never_run(tmp_path) -> None:
    mark = tmp_path / "mark"
    for code in (
        f"__import__('os').system('touch {mark}')",
        f"\\text{{__import__('os').system('touch {mark}')}}",
    ):
        assert maths.score_math(code, "1").value == 0.0
    assert not mark.exists()


def test_threads_share_the_workers() -> None:
    found: list[float] = []
    threads = [
        threading.Thread(
            target=lambda k=k: found.append(
                maths.score_math(f"\\sqrt{{{k * k * 2}}}", f"{k}\\sqrt{{2}}").value
            )
        )
        for k in range(2, 14)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found == [1.0] * 12
    assert len(algebra.algebra().idle) <= algebra.WORKERS


def test_a_worker_killed_from_outside_is_replaced() -> None:
    maths.score_math("\\sqrt{18}", "3\\sqrt{2}")
    for worker in algebra.algebra().idle:
        os.kill(worker.process.pid, signal.SIGKILL)
        assert worker.process.wait(10)
    assert maths.score_math("\\sqrt{50}", "5\\sqrt{2}").value == 1.0


def test_a_worker_that_cannot_start_is_no_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(algebra.sys, "executable", "/bin/false")
    with pytest.raises(InfraError, match="ended twice"):
        algebra.Algebra().equal({"gold": "x", "answer": "y"})


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(algebra.importlib.util, "find_spec", lambda name: None)
    algebra.algebra.cache_clear()
    try:
        with pytest.raises(ConfigError, match="pip install"):
            maths.score_math("x+12345", "y+12345")
    finally:
        algebra.algebra.cache_clear()


def test_the_worker_judges_as_math_verify_alone_does() -> None:
    """The worker takes SymPy's last step to ``eval`` away; on plain LaTeX that must change no
    verdict.
    """
    from math_verify import LatexExtractionConfig, parse, verify

    reading = LatexExtractionConfig(boxed_match_priority=0)
    config = [
        replace(reading, normalization_config=replace(reading.normalization_config, units=False))
    ]

    def read(text: str) -> list:
        return parse(
            f"${latex.to_latex(latex.clean_answer(text))}$", config, fallback_mode="no_fallback"
        )

    compared = 0
    for answer, gold in SAME + DIFFERENT:
        if not answer.strip() or "10^{10" in answer or parse_quantity(latex.clean_answer(answer)):
            continue
        wanted, given = read(gold), read(answer)
        expected = bool(wanted and given) and verify(wanted, given)
        pair = latex.to_latex(latex.clean_answer(gold)), latex.to_latex(latex.clean_answer(answer))
        assert algebra.equal_expressions(*pair)[0] == expected, (answer, gold)
        compared += 1
    assert compared > 30
