"""Exact comparison of SymPy expression trees, in place of math-verify's rounding.

math-verify calls two numbers equal when they agree to six places, so 1/2^2022 equals 1/2^2023. Here
rational numbers are compared without evaluating their powers: both sides are computed modulo two
large primes, in which a power of any size is cheap. Different residues prove different numbers; two
different numbers with equal residues modulo both would need a difference divisible by their 250-bit
product. Roots of such numbers are compared by a common power of both sides. Other constants (pi, e,
logarithms) are compared by evaluating their difference to as many digits as it needs, up to
``MAX_DIGITS``; expressions with variables at sample points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy
from sympy.core.function import AppliedUndef

# Two primes near 2^127 and 2^126 in which small numbers have no small multiplicative order, unlike
# the Mersenne primes, modulo which 2^127 would be 1.
MODULI = (
    sympy.nextprime(159_265_358_979_323_846_264_338_327_950_288_419_716),
    sympy.nextprime(71_828_182_845_904_523_536_028_747_135_266_249_775),
)
MAX_EXPONENT_BITS = 4_096
MAX_FACTORIAL = 200_000
MAX_ROOT = 60
MAX_BITS = 3_000_000
MAX_DIGITS = 1_200
MIN_POINTS = 3
SAMPLES = (
    Fraction(7, 3), Fraction(5, 11), Fraction(13, 4), Fraction(-3, 7), Fraction(-17, 5),
    Fraction(19, 6), Fraction(2, 9), Fraction(-23, 8), Fraction(29, 10), Fraction(31, 12),
)  # fmt: skip
WHOLE_SAMPLES = tuple(map(Fraction, (2, 3, 5, 4, 7, 6, 11, 9)))


class TooLarge(BaseException):
    """A number whose evaluation would not fit into memory or time.

    Not an Exception, so that math-verify's own error handling lets it through.
    """


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
        values = tuple(
            pow(value, exponent, prime) for value, prime in zip(self.values, MODULI, strict=True)
        )
        even = exponent % 2 == 0
        return Residues(values, 1 if even and self.sign else self.sign)


def residues_of(value: int | Fraction) -> Residues:
    exact = Fraction(value)
    values = tuple(exact.numerator * pow(exact.denominator, -1, prime) % prime for prime in MODULI)
    return Residues(values, (exact > 0) - (exact < 0))


def multiply(one: Residues, other: Residues) -> Residues:
    values = tuple(
        a * b % prime for a, b, prime in zip(one.values, other.values, MODULI, strict=True)
    )
    known = one.sign is not None and other.sign is not None
    return Residues(values, one.sign * other.sign if known else None)  # type: ignore[operator]


def add(one: Residues, other: Residues) -> Residues:
    values = tuple(
        (a + b) % prime for a, b, prime in zip(one.values, other.values, MODULI, strict=True)
    )
    if one.sign == 0:
        return Residues(values, other.sign)
    same = other.sign in (0, one.sign)
    return Residues(values, one.sign if same else None)


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
        above, below = (small_rational(part) for part in expr.args)
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
        total = part if total is None else combine(total, part)
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
    parts = [small_rational(part) for part in expr.args]
    values = [part for part in parts if part is not None]
    if len(values) != len(parts):
        return None
    if isinstance(expr, sympy.Add):
        return sum(values, Fraction(0))
    if isinstance(expr, sympy.Mul):
        return math.prod(values, start=Fraction(1))
    base, power = values
    size_of_base = base.numerator.bit_length() + base.denominator.bit_length()
    if power.denominator != 1 or abs(power) * size_of_base > MAX_EXPONENT_BITS:
        return None
    return None if base == 0 and power < 0 else base ** int(power)


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
        signs = [sign_of(factor) for factor in expr.args]
        return None if None in signs else math.prod(sign for sign in signs if sign is not None)
    if isinstance(expr, sympy.Pow):
        base = sign_of(expr.args[0])
        exponent = small_rational(expr.args[1])
        if base == 1:
            return 1
        if exponent is None or exponent.denominator != 1 or base is None:
            return None
        return base if int(exponent) % 2 else base * base
    found = rational_residues(expr)
    return None if found is None else found.sign


def bits_of(expr: Any) -> float:
    """A rough upper bound of the bits that evaluating ``expr`` exactly takes."""
    if isinstance(expr, sympy.Rational):
        return float(int(expr.p).bit_length() + int(expr.q).bit_length())
    if isinstance(expr, sympy.factorial):
        size = small_rational(expr.args[0])
        if size is None:
            return 1.0 if expr.free_symbols else math.inf
        return math.inf if size >= 10**9 else float(size) * math.log2(float(size) + 2)
    if isinstance(expr, sympy.Pow) and not expr.free_symbols:
        power = small_rational(expr.args[1])
        if power is None:
            return math.inf if is_tower(expr.args[1]) else 64 + bits_of(expr.args[0])
        times = max(Fraction(1), abs(power))
        return math.inf if times > 10**12 else bits_of(expr.args[0]) * float(times)
    return sum((bits_of(part) for part in expr.args), 1.0)


def is_tower(exponent: Any) -> bool:
    """Whether an exponent is itself a power or factorial too large to evaluate."""
    parts = exponent.atoms(sympy.Pow, sympy.factorial)
    return any(not part.free_symbols and small_rational(part) is None for part in parts) and all(
        isinstance(atom, sympy.Rational) for atom in exponent.atoms()
    )


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
    pairs = zip(gold.flat(), answer.flat(), strict=True)
    return all(equal_leaves(one, other, positive, whole) for one, other in pairs)


def as_constants(expr: Any, other: Any) -> Any:
    """``expr`` with the letters e and i read as constants, where no other letter stands beside
    them.

    LaTeX cannot tell a variable i from the imaginary unit; beside other variables it stays one.
    """
    letters = {symbol.name for symbol in expr.free_symbols | other.free_symbols}
    if not letters or not letters <= {"e", "i"}:
        return expr
    constants = {"e": sympy.E, "i": sympy.I}
    return expr.subs({symbol: constants[symbol.name] for symbol in expr.free_symbols})


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
        point = {
            symbol: sample(symbol.name, number + place * 3, positive, whole)
            for place, symbol in enumerate(letters)
        }
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
    return expr.subs({call: sympy.Symbol(str(call)) for call in unknown}) if unknown else expr


def sample(name: str, number: int, positive: frozenset[str], whole: frozenset[str]) -> Any:
    values = WHOLE_SAMPLES if name in whole else SAMPLES
    value = values[number % len(values)]
    value = abs(value) if name in positive else value
    return sympy.Rational(value.numerator, value.denominator)


def equal_at_point(gold: Any, answer: Any, complex_values: bool) -> bool | None:
    """Whether two constants are equal; None where either is undefined, or not real where both
    expressions are functions of real values.
    """
    try:
        values = [sympy.N(side.doit(), 15) for side in (gold, answer)]
    except (TypeError, ValueError, ZeroDivisionError, ArithmeticError):
        return None
    if not all(value.is_number and value.is_finite for value in values):
        return None
    imaginary = [abs(sympy.im(value)) > 1e-9 * (1 + abs(value)) for value in values]
    if any(imaginary) and not complex_values:
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
