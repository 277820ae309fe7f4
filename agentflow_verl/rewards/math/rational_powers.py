"""Rational numbers and products of their roots, compared without evaluating their powers.

Both sides are computed modulo two large primes, in which a power of any size is cheap. Different
residues prove different numbers; two different numbers with equal residues would need a difference
divisible by the primes' 250-bit product. Roots are compared by a common power of both sides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy

# Two primes near 2^127 and 2^126 in which small numbers have no small multiplicative order, unlike
# the Mersenne primes, modulo which 2^127 would be 1.
MODULI = (
    sympy.nextprime(159_265_358_979_323_846_264_338_327_950_288_419_716),
    sympy.nextprime(71_828_182_845_904_523_536_028_747_135_266_249_775),
)
MAX_EXPONENT_BITS = 4_096
MAX_FACTORIAL = 200_000
MAX_ROOT = 60


@dataclass(frozen=True)
class Residues:
    """A rational number modulo ``MODULI``; ``sign`` is None where the structure does not show
    it.
    """

    values: tuple[int, ...]
    sign: int | None

    def power(self, exponent: int) -> Residues:
        """Raises ZeroDivisionError for a negative power of zero."""
        if exponent < 0 and 0 in self.values:
            raise ZeroDivisionError
        values = tuple(map(pow, self.values, (exponent,) * len(MODULI), MODULI))
        if exponent % 2 == 0 and self.sign:
            return Residues(values, 1)
        return Residues(values, self.sign)


def residues_of(value: int | Fraction) -> Residues:
    exact = Fraction(value)
    # Dividing is multiplying with the inverse, which pow() knows modulo a prime.
    values = tuple(exact.numerator * pow(exact.denominator, -1, prime) % prime for prime in MODULI)
    return Residues(values, (exact > 0) - (exact < 0))


def multiply(one: Residues, other: Residues) -> Residues:
    values = []
    for factor, other_factor, prime in zip(one.values, other.values, MODULI, strict=True):
        values.append(factor * other_factor % prime)
    if one.sign is None or other.sign is None:
        return Residues(tuple(values), None)
    return Residues(tuple(values), one.sign * other.sign)


def add(one: Residues, other: Residues) -> Residues:
    values = []
    for term, other_term, prime in zip(one.values, other.values, MODULI, strict=True):
        values.append((term + other_term) % prime)
    if one.sign == 0:
        return Residues(tuple(values), other.sign)
    if other.sign in (0, one.sign):
        return Residues(tuple(values), one.sign)
    return Residues(tuple(values), None)  # which of the two is larger the residues do not tell


def rational_residues(expr: Any) -> Residues | None:
    """The residues of a rational number; None where the tree is something else or unreadable."""
    try:
        return _residues(expr, 1)
    except (ZeroDivisionError, ValueError, OverflowError):
        return None


def _residues(expr: Any, root: int) -> Residues | None:
    """The residues of ``expr`` to the power ``root``, which makes its roots rational.

    A sum to a power is taken only where it is rational itself; a product factor by factor.
    """
    if isinstance(expr, sympy.UnevaluatedExpr):
        return _residues(expr.args[0], root)
    if isinstance(expr, sympy.Rational):
        return residues_of(Fraction(int(expr.p), int(expr.q))).power(root)
    if isinstance(expr, sympy.Mul):
        return _fold(multiply, (_residues(factor, root) for factor in expr.args))
    if isinstance(expr, sympy.Add):
        total = _fold(add, (_residues(term, 1) for term in expr.args))
        return total and total.power(root)
    if isinstance(expr, sympy.Pow):
        return _power_residues(expr, root)
    if isinstance(expr, sympy.factorial):
        size = small_rational(expr.args[0])
        if size is None or size.denominator != 1 or not 0 <= size <= MAX_FACTORIAL:
            return None
        return _product(range(2, int(size) + 1)).power(root)
    if isinstance(expr, sympy.binomial):
        above, below = map(small_rational, expr.args)
        if above is None or below is None or not 0 <= below <= above <= MAX_FACTORIAL:
            return None
        return residues_of(math.comb(int(above), int(below))).power(root)
    return None


def _power_residues(expr: Any, root: int) -> Residues | None:
    base, exponent = expr.args
    power = small_rational(exponent)
    if power is None or (power * root).denominator != 1:
        return None
    if power.denominator == 1:
        found = _residues(base, 1)
        if found is None:
            inner = _residues(base, root)  # (a root)^n
            return inner and inner.power(int(power))
        return found.power(int(power) * root)
    found = _residues(base, 1)
    if found is None or found.sign is None or found.sign < 0:
        return None  # the root of a negative number is not real
    return found.power(int(power * root))


def _fold(
    combine: Callable[[Residues, Residues], Residues], parts: Iterator[Residues | None]
) -> Residues | None:
    total: Residues | None = None
    for part in parts:
        if part is None:
            return None
        if total is None:
            total = part
        else:
            total = combine(total, part)
    return total


def _product(factors: range) -> Residues:
    values = []
    for prime in MODULI:
        value = 1
        for factor in factors:
            value = value * factor % prime
        values.append(value)
    return Residues(tuple(values), 1)


def small_rational(expr: Any) -> Fraction | None:
    """The exact value of an exponent, None where it is no rational or has too many bits."""
    if isinstance(expr, sympy.UnevaluatedExpr):
        return small_rational(expr.args[0])
    if isinstance(expr, sympy.Rational):
        return Fraction(int(expr.p), int(expr.q))
    if isinstance(expr, sympy.factorial):
        size = small_rational(expr.args[0])
        if size is None or size.denominator != 1 or not 0 <= size <= 300:
            return None
        return Fraction(math.factorial(int(size)))
    if not isinstance(expr, (sympy.Add, sympy.Mul, sympy.Pow)):
        return None
    values = []
    for part in expr.args:
        exact = small_rational(part)
        if exact is None:
            return None
        values.append(exact)
    if isinstance(expr, sympy.Add):
        return sum(values, Fraction(0))
    if isinstance(expr, sympy.Mul):
        return math.prod(values, start=Fraction(1))
    base, power = values
    size_of_base = base.numerator.bit_length() + base.denominator.bit_length()
    if power.denominator != 1 or abs(power) * size_of_base > MAX_EXPONENT_BITS:
        return None
    if base == 0 and power < 0:
        return None
    return base ** int(power)


def root_degree(expr: Any) -> int:
    """The least common denominator of the fractional exponents in ``expr``."""
    degree = 1
    for power in expr.atoms(sympy.Pow):
        exponent = small_rational(power.args[1])
        if exponent is not None:
            degree = math.lcm(degree, exponent.denominator)
    return degree


def equal_monomials(one: Any, other: Any) -> bool | None:
    """Whether two products of rational powers are equal; None where either is something else."""
    degree = math.lcm(root_degree(one), root_degree(other))
    if degree > MAX_ROOT:
        return None
    try:
        first, second = _residues(one, degree), _residues(other, degree)
    except (ZeroDivisionError, ValueError, OverflowError):
        return None
    if first is None or second is None:
        return None
    if degree == 1:
        return first.values == second.values
    signs = sign_of(one), sign_of(other)
    if None in signs:
        return None
    return first.values == second.values and signs[0] == signs[1]


def sign_of(expr: Any) -> int | None:
    """The sign of a real product of powers, None where the structure does not show it."""
    if isinstance(expr, sympy.UnevaluatedExpr):
        return sign_of(expr.args[0])
    if isinstance(expr, sympy.Mul):
        product = 1
        for factor in expr.args:
            sign = sign_of(factor)
            if sign is None:
                return None
            product *= sign
        return product
    if isinstance(expr, sympy.Pow):
        base = sign_of(expr.args[0])
        exponent = small_rational(expr.args[1])
        if base == 1:
            return 1
        if exponent is None or exponent.denominator != 1 or base is None:
            return None
        if int(exponent) % 2:
            return base
        return base * base
    found = rational_residues(expr)
    if found is None:
        return None
    return found.sign


def bits_of(expr: Any) -> float:
    """A rough upper bound of the bits that evaluating ``expr`` exactly takes."""
    if isinstance(expr, sympy.Rational):
        return float(int(expr.p).bit_length() + int(expr.q).bit_length())
    if isinstance(expr, sympy.factorial):
        size = small_rational(expr.args[0])
        if size is None:
            if expr.free_symbols:
                return 1.0
            return math.inf
        if size >= 10**9:
            return math.inf
        # log2(n!) is at most n log2(n).
        return float(size) * math.log2(float(size) + 2)
    if isinstance(expr, sympy.Pow) and not expr.free_symbols:
        power = small_rational(expr.args[1])
        if power is None:
            if is_tower(expr.args[1]):
                return math.inf
            return 64 + bits_of(expr.args[0])  # no rational exponent: evaluated as a float
        times = max(Fraction(1), abs(power))
        if times > 10**12:
            return math.inf
        return bits_of(expr.args[0]) * float(times)
    return sum(map(bits_of, expr.args), 1.0)


def is_tower(exponent: Any) -> bool:
    """Whether an exponent is itself a power or factorial too large to evaluate."""
    parts = exponent.atoms(sympy.Pow, sympy.factorial)
    if not all(isinstance(atom, sympy.Rational) for atom in exponent.atoms()):
        return False
    return any(not part.free_symbols and small_rational(part) is None for part in parts)
