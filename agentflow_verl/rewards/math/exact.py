"""Exact comparison of SymPy expression trees, in place of math-verify's rounding.

math-verify calls two numbers equal when they agree to six places, so 1/2^2022 equals 1/2^2023. Here
rational powers are compared as ``rational_powers.py`` does. Other constants (pi, e, logarithms) are
compared by evaluating their difference to as many digits as it needs, up to ``MAX_DIGITS``;
expressions with variables at sample points.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import sympy
from sympy.core.function import AppliedUndef

from agentflow_verl.rewards.math.rational_powers import bits_of, equal_monomials

MAX_BITS = 3_000_000
MAX_DIGITS = 1_200
MIN_POINTS = 3
SAMPLES: tuple[Fraction, ...] = (
    Fraction(7, 3), Fraction(5, 11), Fraction(13, 4), Fraction(-3, 7), Fraction(-17, 5),
    Fraction(19, 6), Fraction(2, 9), Fraction(-23, 8), Fraction(29, 10), Fraction(31, 12),
)  # fmt: skip
WHOLE_SAMPLES = tuple(map(Fraction, (2, 3, 5, 4, 7, 6, 11, 9)))


class TooLarge(BaseException):
    """A number whose evaluation would not fit into memory or time.

    Not an Exception, so that math-verify's own error handling lets it through.
    """


def equal_leaves(gold: Any, answer: Any, positive: frozenset[str], whole: frozenset[str]) -> bool:
    """Whether two numbers, expressions or matrices are equal.

    ``positive`` and ``whole`` name the variables that the question says are positive or integers.

    Raises:
        TooLarge: a number that cannot be evaluated and is no rational power either.
    """
    if isinstance(gold, sympy.MatrixBase) or isinstance(answer, sympy.MatrixBase):
        return equal_matrices(gold, answer, positive, whole)
    gold, answer = as_constants(gold, answer), as_constants(answer, gold)
    if gold.free_symbols or answer.free_symbols:
        return equal_functions(gold, answer, positive, whole)
    same = equal_monomials(gold, answer)
    if same is not None:
        return same
    if max(bits_of(gold), bits_of(answer)) > MAX_BITS:
        raise TooLarge
    return is_zero(gold.doit() - answer.doit())


def equal_matrices(gold: Any, answer: Any, positive: frozenset[str], whole: frozenset[str]) -> bool:
    if not isinstance(gold, sympy.MatrixBase) or not isinstance(answer, sympy.MatrixBase):
        return False
    if gold.shape != answer.shape:
        return False
    for one, other in zip(gold.flat(), answer.flat(), strict=True):
        if not equal_leaves(one, other, positive, whole):
            return False
    return True


def as_constants(expr: Any, other: Any) -> Any:
    """``expr`` with the letters e and i read as constants, where no other letter stands beside
    them.

    LaTeX cannot tell a variable i from the imaginary unit; beside other variables it stays one.
    """
    letters = {symbol.name for symbol in expr.free_symbols | other.free_symbols}
    if not letters or not letters <= {"e", "i"}:
        return expr
    constants = {"e": sympy.E, "i": sympy.I}
    meant = {}
    for symbol in expr.free_symbols:
        meant[symbol] = constants[symbol.name]
    return expr.subs(meant)


def equal_functions(
    gold: Any, answer: Any, positive: frozenset[str], whole: frozenset[str]
) -> bool:
    """Whether two expressions agree at every sample point at which both are defined.

    Where the question says nothing of the variables, they are real, and a point counts where both
    sides are real: sqrt(1/n) and 1/sqrt(n) are one function, x and |x| are two.
    """
    gold, answer = without_functions(gold), without_functions(answer)
    letters = sorted(gold.free_symbols | answer.free_symbols, key=lambda symbol: symbol.name)
    complex_values = gold.has(sympy.I) or answer.has(sympy.I)
    counted = 0
    for number in range(len(SAMPLES)):
        point = {}
        for place, symbol in enumerate(letters):
            # Shifted, so that no two variables have the same value.
            point[symbol] = sample(symbol.name, number + place * 3, positive, whole)
        one, other = gold.subs(point), answer.subs(point)
        verdict = equal_at_point(one, other, complex_values)
        if verdict is False:
            return False
        counted += bool(verdict)
    if counted >= MIN_POINTS:
        return True
    return bool(sympy.simplify(gold.doit() - answer.doit()) == 0)


def without_functions(expr: Any) -> Any:
    """``expr`` with every f(x) of an unknown function replaced by one letter for it."""
    unknown = expr.atoms(AppliedUndef)
    if unknown:
        letters = map(sympy.Symbol, map(str, unknown))
        return expr.subs(dict(zip(unknown, letters, strict=True)))
    return expr


def sample(name: str, number: int, positive: frozenset[str], whole: frozenset[str]) -> Any:
    values = SAMPLES
    if name in whole:
        values = WHOLE_SAMPLES
    value = values[number % len(values)]
    if name in positive:
        value = abs(value)
    return sympy.Rational(value.numerator, value.denominator)


def equal_at_point(gold: Any, answer: Any, complex_values: bool) -> bool | None:
    """Whether two constants are equal; None where either is undefined, or not real where both
    expressions are functions of real values.
    """
    try:
        values = sympy.N(gold.doit(), 15), sympy.N(answer.doit(), 15)
    except (TypeError, ValueError, ZeroDivisionError, ArithmeticError):
        return None
    for value in values:
        if not (value.is_number and value.is_finite):
            return None
    for value in values:
        # A real value may carry an imaginary part of rounding errors, as cube roots do.
        imaginary = abs(sympy.im(value)) > 1e-9 * (1 + abs(value))
        if imaginary and not complex_values:
            return None
    return is_zero(gold.doit() - answer.doit())


def is_zero(difference: Any) -> bool:
    """Whether a constant is zero: evaluated to more and more digits until one is not zero.

    A constant that vanishes to ``MAX_DIGITS`` digits counts as zero.
    """
    if difference in (sympy.nan, sympy.zoo):
        return False
    if difference.is_Rational:
        return bool(difference == 0)
    # Two digits tell zero from not zero; evalf works with as many as cancellation eats, up to maxn.
    value = sympy.expand(difference).evalf(2, maxn=MAX_DIGITS)
    parts = value.as_real_imag()
    # A precision of one bit is SymPy's mark of a value that stayed indistinguishable from zero.
    return all(part == 0 or getattr(part, "_prec", 53) == 1 for part in parts)


def close_to_decimal(exact: Any, decimal: Fraction, places: int) -> bool:
    """Whether a constant, rounded to ``places`` places, is ``decimal``."""
    if exact.free_symbols or bits_of(exact) > MAX_BITS:
        return False
    value = exact.doit().evalf(30 + places)
    if not value.is_real:
        return False
    difference = abs(value - sympy.Rational(decimal.numerator, decimal.denominator))
    return bool(difference * 10**places <= sympy.Rational(1, 2))
