"""Answers that repeat the question's own expression, and worked-out ones that look like it."""

from __future__ import annotations

import pytest

from agentflow_verl.rewards.math import equality as maths

SIMPLIFICATION = "reasoning_gym/fraction_simplification"
PRODUCTS = "reasoning_gym/products"

REPEATED = [
    ("8/2", "4", "Compute $8/2$."),
    ("8/2", "4", "What is 8 divided by 2?"),
    (r"\frac{9}{3}", "3", r"Compute $\frac{9}{3}$."),
    (r"{144 \over 12}", "12", r"Compute $\frac{144}{12}$."),
    ("48:12", "4", "What is 48 ÷ 12?"),
    (r"0.\overline{3}", "1/3", r"Express $0.\overline{3}$ as a common fraction."),
    ("0.75", "3/4", "Convert 0.75 to a fraction."),
    ("3/4", "0.75", "Convert 3/4 to a decimal."),
    ("25%", "1/4", "Write 25% as a fraction in lowest terms."),
    (r"2\frac{3}{4}", "11/4", r"Express $2\frac34$ as an improper fraction."),
    ("|-5|", "5", "Evaluate $|-5|$."),
    (r"\left|-5\right|", "5", "Evaluate $|-5|$."),
    (r"\cos\pi", "-1", r"What is $\cos \pi$?"),
    ("cos(pi)", "-1", r"What is $\cos \pi$?"),
    ("sqrt(50)", r"5\sqrt2", r"Simplify $\sqrt{50}$."),
    (r"\arcsin 1", r"\frac{\pi}{2}", r"Find $\arcsin 1$."),
    (r"\{1,2\}\cup\{3\}", r"\{1,2,3\}", r"Find $\{1,2\}\cup\{3\}$."),
    ("|x|<3", "(-3,3)", "Solve $|x|<3$."),
    (r"\frac{1}{\sqrt2}", r"\frac{\sqrt2}{2}", r"Rationalize $\frac{1}{\sqrt{2}}$."),
    (r"1/\sqrt2", r"\frac{\sqrt2}{2}", r"Rationalize $\frac{1}{\sqrt{2}}$."),
    (r"\sqrt{8}+\sqrt2", r"3\sqrt2", r"What is the sum of $\sqrt8$ and $\sqrt2$?"),
    ("-(-7)", "7", "What is -(-7)?"),
]

WORKED_OUT = [
    ("2/3", "2/3", "Which is larger, 1/2 or 2/3?"),
    (r"\frac{2}{3}", "2/3", "Simplify 4/6."),
    ("3+4", "7", "Ann has three apples and Bob has four. How many do they have?"),
    ("0.5", "1/2", "What is the probability? Express it as a common fraction."),
    (r"\frac{3}{4}", "3/4", "Express 0.75 as a common fraction."),
    ("5", "5.0", "Write 5 as a decimal."),
    ("12 cm", "12", "The side is 12 cm. How long is the diameter of the circle?"),
    ("2.5 cm", "2.5", "The radius is 2.5 cm. Express the height as a decimal."),
    (r"\frac{\pi}{2}", r"\pi/2", r"Which angle between $0$ and $\pi/2$ is largest?"),
    (
        r"\sqrt{2}+1",
        r"1+\sqrt{2}",
        "The difference of two numbers is 2 and their product is 1. Find the larger.",
    ),
    (
        r"\frac{\sqrt5+3}{2}",
        r"\frac{3+\sqrt5}{2}",
        "The sum of 2 numbers is 3, that of their squares less 5 is 2. Find the larger.",
    ),
]


@pytest.mark.parametrize(("answer", "gold", "question"), REPEATED)
def test_what_the_question_asks_to_work_out_is_no_answer(
    answer: str, gold: str, question: str
) -> None:
    verdict = maths.score_math(answer, gold, question=question)
    assert (verdict.value, verdict.reason) == (0.0, "restates the question")


@pytest.mark.parametrize(("answer", "gold", "question"), WORKED_OUT)
def test_a_value_that_is_worked_out_is_right(answer: str, gold: str, question: str) -> None:
    verdict = maths.score_math(answer, gold, question=question)
    assert verdict.value == 1.0, verdict.reason


@pytest.mark.parametrize(
    "answer", ["4/6", r"\frac{4}{6}", "6/9", "4:6", "2:3", "0.6666666667", r"0.\overline{6}"]
)
def test_a_simplified_fraction_is_a_fraction_in_lowest_terms(answer: str) -> None:
    known = {"question": "Simplify the fraction 4/6", "data_source": SIMPLIFICATION}
    assert maths.score_math(answer, "2/3", **known).value == 0.0
    assert maths.score_math(r"\frac{2}{3}", "2/3", **known).value == 1.0


@pytest.mark.parametrize(
    "answer",
    ["37*81", "37∗81", "37∙81", "37 • 81", "5994:2", r"{5994 \over 2}", "-(-2997)", "--2997"]
    + ["2997/1", "|-2997|", r"\lvert -2997 \rvert"],
)
def test_a_product_is_one_numeral(answer: str) -> None:
    known = {"question": "Solve 37 * 81", "data_source": PRODUCTS}
    assert maths.score_math(answer, "2997", **known).value == 0.0
    assert maths.score_math("2,997", "2997", **known).value == 1.0
