"""Exact comparison of SymPy trees: what rounding would make equal stays different."""

from __future__ import annotations

from fractions import Fraction

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow_verl.rewards.math.exact import (
    TooLarge,
    close_to_decimal,
    equal_leaves,
)
from agentflow_verl.rewards.math.rational_powers import rational_residues

NOBODY: frozenset[str] = frozenset()
FRACTIONS = st.fractions(max_denominator=10**30)
X = sympy.Symbol("x", real=True)


def number(value: Fraction) -> sympy.Rational:
    return sympy.Rational(value.numerator, value.denominator)


def power(base: int, exponent: int) -> sympy.Pow:
    return sympy.Pow(sympy.Integer(base), sympy.Integer(exponent), evaluate=False)


@given(FRACTIONS, FRACTIONS)
def test_rationals_are_equal_exactly_when_they_are_the_same(one: Fraction, other: Fraction) -> None:
    assert equal_leaves(number(one), number(other), NOBODY, NOBODY) == (one == other)


@given(FRACTIONS, FRACTIONS)
def test_an_unevaluated_sum_or_product_is_its_value(one: Fraction, other: Fraction) -> None:
    total = sympy.Add(number(one), number(other), evaluate=False)
    product = sympy.Mul(number(one), number(other), evaluate=False)
    assert rational_residues(total) is not None
    assert equal_leaves(total, number(one + other), NOBODY, NOBODY)
    assert equal_leaves(product, number(one * other), NOBODY, NOBODY)


@settings(max_examples=40)
@given(st.integers(2, 50), st.integers(-(10**9), 10**9))
def test_powers_of_any_size_are_told_apart(base: int, exponent: int) -> None:
    assert equal_leaves(power(base * base, exponent), power(base, 2 * exponent), NOBODY, NOBODY)
    assert not equal_leaves(power(base, exponent), power(base, exponent + 1), NOBODY, NOBODY)


@settings(max_examples=20)
@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_roots_are_compared_by_their_powers(one: int, other: int) -> None:
    product = sympy.Mul(
        sympy.Pow(one, sympy.Rational(1, 2), evaluate=False),
        sympy.Pow(other, sympy.Rational(1, 2), evaluate=False),
        evaluate=False,
    )
    root = sympy.Pow(one * other, sympy.Rational(1, 2), evaluate=False)
    assert equal_leaves(product, root, NOBODY, NOBODY)
    assert not equal_leaves(product, sympy.Mul(-1, root, evaluate=False), NOBODY, NOBODY)


def test_a_tower_that_nobody_can_evaluate_is_too_large() -> None:
    tower = sympy.Integer(9)
    for _ in range(3):
        tower = sympy.Pow(sympy.Integer(9), tower, evaluate=False)
    with pytest.raises(TooLarge):
        equal_leaves(tower, sympy.Integer(7), NOBODY, NOBODY)


def test_variables_are_real_unless_the_question_says_more() -> None:
    assert not equal_leaves(sympy.Abs(X), sympy.sqrt(X**2) * sympy.sign(X), NOBODY, NOBODY)
    root = sympy.Pow(sympy.Pow(X, 2, evaluate=False), sympy.Rational(1, 2), evaluate=False)
    assert not equal_leaves(root, X, NOBODY, NOBODY)
    assert equal_leaves(root, X, frozenset({"x"}), NOBODY)


def test_a_decimal_is_close_to_what_rounds_to_it() -> None:
    assert close_to_decimal(sympy.pi, Fraction("3.141593"), 6)
    assert not close_to_decimal(sympy.pi, Fraction("3.141592"), 6)
