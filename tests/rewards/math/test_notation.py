"""Maths answers whose notation decides: case, blanks, names, brackets, colons."""

from __future__ import annotations

import string

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agentflow_verl.rewards.math import equality as maths

SAME = [
    # the case of words
    (r"\text{Monday}", "monday"),
    ("YES", "Yes"),
    ("Isosceles Triangle", "isosceles triangle"),
    # expressions of letters in either case
    (r"\frac{M}{m+M}", "M/(M+m)"),
    ("R-r", "-r+R"),
    ("mM", "Mm"),
    (r"\frac{N(N+1)}{2}", "N(N+1)/2"),
    ("6.02E23", "6.02e23"),
    # blanks that change nothing
    ("( 1 , 2 )", "(1,2)"),
    ("2  x + 1", "2x+1"),
    (r"1\,000", "1000"),
    ("1 000 000", "1000000"),
    # thousands as TeX sets them
    ("10080", r"10,\!080"),
    ("32348", r"\$32,\!348"),
    ("11,111,111,100", r"11,\! 111,\! 111,\! 100"),
    # values with names, in any order
    ("x=2,y=2", "(2,2)"),
    ("y=3, x=2", "(2,3)"),
    (r"x=2\text{ and }y=3", "(2,3)"),
    ("c=3,b=2,a=1", "(1,2,3)"),
    ("m=4,n=3", "n=3,m=4"),
    ("x=1,y=2 or x=2,y=1", "(1,2),(2,1)"),
    ("x=1, x=2", "1,2"),
    ("x=1 or x=2", "2,1"),
    # points and intervals beside each other
    ("(1,2) and (3,4)", "(1,2),(3,4)"),
    ("(3,4) and (1,2)", "(1,2),(3,4)"),
    ("(1,2), (3,4), and (5,6)", "(1,2),(3,4),(5,6)"),
    ("(1,2,3) and (4,5,6)", "(4,5,6),(1,2,3)"),
    ("(-∞,-1) or (1,∞)", r"(-\infty,-1)\cup(1,\infty)"),
    ("x>1 and x<3", "(1,3)"),
    # letters with signs or blanks between them
    ("-q+p", "p - q"),
    ("(p-q)", "p - q"),
    ("b-a", "-a+b"),
    ("y x", "xy"),
    ("x sin x", r"x\sin x"),
    ("pi r", r"\pi r"),
    # ratios and times
    ("2:4:6", "1:2:3"),
    ("0.5:1:1.5", "1:2:3"),
    (r"2:2\sqrt3:4", r"1:\sqrt3:2"),
    ("1:2", "2:4"),
    ("4:15 p.m.", r"4:15\text{ p.m.}"),
    ("4:15", "4:15 PM"),
    ("16:15", "4:15 p.m."),
    ("08:30", "8:30"),
    # superscripts, calculator spellings, brackets
    ("10^-3", "0.001"),
    ("x^-1", "1/x"),
    ("x**-2", "1/x^2"),
    ("e^-x", "1/e^x"),
    ("a^-n", "1/a^n"),
    ("10⁻³", "0.001"),
    ("x²³", "x^{23}"),
    ("2ⁿ⁺¹", "2^{n+1}"),
    ("x₁", "x_1"),
    ("1011₂", "1011_2"),
    ("⅗", "0.6"),
    ("3½", "3.5"),
    ("¹/₂", "1/2"),
    ("1.2 x 10^-3", "0.0012"),
    ("1.2×10⁻³", "0.0012"),
    ("x ⩽ 3", r"x\le 3"),
    ("5‐3i", "5-3i"),
    ("｛1,2｝", r"\{1,2\}"),
    ("2sqrt6", r"2\sqrt6"),
    ("sqrt{6}", r"\sqrt6"),
    ("(1+sqrt5)/2", r"\frac{1+\sqrt5}{2}"),
    ("arctan(2)", r"\arctan 2"),
    ("sinh(x)", r"\sinh x"),
    ("sec^2(x)", r"\sec^2 x"),
    ("csc x", r"\csc x"),
    (r"\operatorname{arctan}(2)", r"\arctan 2"),
    (r"\Bigl(1,2\Bigr)", "(1,2)"),
    (r"\lbrace 1,2\rbrace", r"\{1,2\}"),
    (r"\langle 1,2,3\rangle", "(1,2,3)"),
    ("⟨1,2,3⟩", "(1,2,3)"),
    (r"5\;", "5"),
    ("5\\\\", "5"),
    (r"5\ \%", r"5\%"),
    (r"\mathbb{R}\backslash\{2\}", r"\mathbb{R}\setminus\{2\}"),
    (r"\begin{pmatrix}1\\ 2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    ("(1±√5)/2", r"\frac{1+\sqrt{5}}{2}, \frac{1-\sqrt{5}}{2}"),
    (r"\{x \mid 1<x<2\}", "(1,2)"),
    (r"\{x \in \mathbb{R} : x > 3\}", r"(3,\infty)"),
    ("∅", r"\{\}"),
    ("the empty set", r"\varnothing"),
    ("(2,1)", r"(2,\frac{2}{2})"),
    ("(-∞,-1) U (1,∞)", r"(-\infty,-1)\cup(1,\infty)"),
    ("{{{1}}}", "1"),
    # options with their values
    (r"\textbf{(C)}\ 5", "5"),
    ("(C) 5", "C"),
    (r"\text{(C) }5", "5"),
    ("(C) 5", r"\textbf{(C)}\ 5"),
    ("5", r"\textbf{(C)}\ 5"),
    ("(C)", r"\textbf{(C) } 5"),
    # marks and bases
    ("f'(x)", "f'(x)"),
    ("1,000_2", "1000_2"),
    (r"x=\frac{1\pm\sqrt5}{2}", r"\frac{1\pm\sqrt5}{2}"),
]

DIFFERENT = [
    (r"\frac{M}{m+M}", r"\frac{m}{m+M}"),
    ("r-R", "R-r"),
    ("E", "e"),
    (r"\Pi", r"\pi"),
    (r"\Delta", r"\delta"),
    ("1", r"\frac{M}{m}"),
    ("4r^2", "(R+r)^2"),
    ("2X", "2x"),
    ("51/2", "5 1/2"),
    ("51/2", "5  1/2"),
    ("12/3", "1 2/3"),
    ("2 3", "23"),
    (r"2\,3", "23"),
    ("(1 2, 3)", "(12,3)"),
    ("2^3 4", "2^34"),
    ("10080", r"10,\!08"),
    ("1080", r"10,\!080"),
    ("x=3,y=2", "(2,3)"),
    ("x=3,y=2", "x=2,y=3"),
    ("m=3,n=4", "m=4,n=3"),
    ("x=2,y=2", "x=2"),
    ("x=2,y=2", "2"),
    ("x=1", "x=1,y=2"),
    (r"x=2\text{ and }y=3", "3"),
    ("x=2 and y>5", "x=2"),
    ("x<1 or y>2", "x<1 or x>2"),
    ("3 and 1", "(1,3)"),
    ("(5,6) and (7,8)", r"(1,2)\text{ and }(3,4)"),
    ("(5,6) and (7,8)", r"\emptyset"),
    ("(1,3) and (2,4)", "(2,3)"),
    ("(1,3) and (2,4)", "(1,4)"),
    ("(1,2) or (3,4)", "(1,4)"),
    ("(1,2) and (3,4)", "(1,2),(4,3)"),
    ("p - q", "q - p"),
    ("cos x", "sin x"),
    ("non-zero", "zero"),
    ("1:2:3", "1:3:2"),
    ("1:2:3", "1:6"),
    ("1:2:3", "1/6"),
    ("1:2:3:4", "1:2:3"),
    ("0:1:2", "0:2:1"),
    (r"1:\sqrt3:2", r"1:2:\sqrt3"),
    ("8:30", "4:15"),
    ("0:30", "0:45"),
    ("4:15", "16:15"),
    ("4:15 a.m.", "4:15 p.m."),
    ("12:30 a.m.", "12:30 p.m."),
    ("16:15", "4:15 a.m."),
    ("10^-3", "1000"),
    ("x^-1", "x"),
    ("2^-1/2", r"\frac{1}{\sqrt2}"),
    ("(C) 6", "5"),
    ("(B) 5", "C"),
    ("(B) 5", r"\textbf{(C)}\ 5"),
    ("(C) 6", r"\textbf{(C)}\ 5"),
    ("(A) (B)", "B"),
    ("f'(x)", "f(x)"),
    ("f'(x)", "f''(x)"),
    ("x'", "x"),
    ("A^T", "A"),
    ("1,2_5", "12_5"),
    ("(2,1]", "(3,1]"),
    ("x>3 and x<1", "x>5 and x<2"),
    ("x>3 and x<1", r"\emptyset"),
    (r"\{x \mid 1<x<2\}", "(1,3)"),
    ("x²³", "x^6"),
    ("2ⁿ⁺¹", "2^n+1"),
    ("x₁₂", "x_1"),
    ("⅛", "1/6"),
    ("3½", "1.5"),
    ("1.2 x 10^-3", "1200"),
    ("2sqrt6", r"\sqrt6"),
    ("arctan(2)", r"\arccos 2"),
    ("sinh(x)", r"\sin x"),
    ("sec^2 x", r"\csc^2 x"),
    (r"\langle 1,2,3\rangle", "(1,3,2)"),
    ("[1,2]", "［1,2）"),
    (r"\frac{-1\pm\sqrt5}{2}", r"\frac{-1+\sqrt5}{2}"),
    (r"\frac{-1\pm\sqrt5}{2}", r"\frac{1\pm\sqrt5}{2}"),
]


@pytest.mark.parametrize(("answer", "gold"), SAME)
def test_another_writing_is_right(answer: str, gold: str) -> None:
    verdict = maths.score_math(answer, gold)
    assert verdict.value == 1.0, verdict.reason


@pytest.mark.parametrize(("answer", "gold"), DIFFERENT)
def test_another_meaning_is_wrong(answer: str, gold: str) -> None:
    verdict = maths.score_math(answer, gold)
    assert verdict.value == 0.0, verdict.reason


@pytest.mark.parametrize("letter", sorted(set(string.ascii_lowercase) - {"i"}))
def test_a_letter_never_equals_its_capital(letter: str) -> None:
    assert maths.score_math(f"({letter}+1)/2", f"({letter.upper()}+1)/2").value == 0.0
    assert maths.score_math(letter, letter.upper()).value == 0.0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 99), min_size=3, max_size=4), st.integers(2, 9), st.data())
def test_a_ratio_keeps_the_order_of_its_members(
    members: list[int], factor: int, data: st.DataObject
) -> None:
    gold = ":".join(map(str, members))
    larger = ":".join(str(member * factor) for member in members)
    assert maths.score_math(larger, gold).value == 1.0
    other = data.draw(st.permutations(members))
    assume(other != members)
    assert maths.score_math(":".join(map(str, other)), gold).value == 0.0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-99, 99), min_size=2, max_size=3), st.data())
def test_values_belong_to_their_names(values: list[int], data: st.DataObject) -> None:
    named = list(zip("xyz", values, strict=False))
    gold = ",".join(f"{name}={value}" for name, value in named)
    shuffled = data.draw(st.permutations(named))
    assert (
        maths.score_math(",".join(f"{name}={value}" for name, value in shuffled), gold).value == 1.0
    )
    other = data.draw(st.permutations(values))
    assume(other != values)
    swapped = ",".join(f"{name}={value}" for name, value in zip("xyz", other, strict=False))
    assert maths.score_math(swapped, gold).value == 0.0
