"""Compare two LaTeX expressions with math-verify, in a process of its own.

``python -m agentflow_verl.rewards.math.sympy_worker`` reads one JSON object per line from standard
input, ``{"gold": latex, "answer": latex, "positive": names, "whole": names}``, and writes one per
line, ``{"equal": bool, "why": text}``.

Algebra on a model's text can take unbounded time and memory, and math-verify's own time limit is a
signal that only works in a main thread, which a reward worker's is not. Here it is one, and the
limits count this process's CPU seconds, so a verdict does not depend on how busy the machine is:
first a timer, then, for work inside one C call that no Python signal handler can interrupt, the
kernel, which ends the process. Memory is limited by the kernel too.
"""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import IO, Any

import sympy

from agentflow_verl.rewards.math.exact import TooLarge, close_to_decimal, equal_leaves

CPU_SECONDS = 2.0
MEMORY_BYTES = 2 << 30
# As SymPy's tokenizer writes a numeral or a name.
ATOM = re.compile(r"\s*(Integer|Float|Symbol)\s*\(\s*'?([0-9A-Za-z_.]+)'?\s*\)\s*")
ALTERNATIVES = re.compile(
    r"\\text(?:rm)?\s?\{\s*or\s*\}|\\lor(?![a-zA-Z])|\\vee(?![a-zA-Z])|\bor\b"
)
RELATION = re.compile(r"[<>]|\\(?:le|ge|leq|geq|lt|gt|ne|neq|leqslant|geqslant)(?![a-zA-Z])")
ALTERNATIVES_OF_SETS = re.compile(ALTERNATIVES.pattern + r"|\\cup(?![a-zA-Z])")
# A comma joins conditions only before another equation: "x=1, y=2", but not "(1, 2)".
CONDITIONS = re.compile(
    r"\\text(?:rm)?\s?\{\s*and\s*\}|\\land(?![a-zA-Z])|\\wedge(?![a-zA-Z])|\band\b"
    r"|,(?=\s*[a-zA-Z]\s*=)"
)
# Six places or more: a decimal that long is taken for a rounded value.
LONG_DECIMAL = re.compile(r"-?\s?[0-9]*\.([0-9]{6,})")


class TooExpensive(BaseException):
    """The timer fired. Not an Exception, so that the algebra's own error handling lets it
    through.
    """


def main() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    sys.stdout = sys.stderr  # a library's print must not reach the wire
    logging.disable(logging.CRITICAL)
    comparison = Comparison()
    limit_memory()
    signal.signal(signal.SIGPROF, on_timer)
    send(answers, {"ready": True})
    for line in sys.stdin:
        send(answers, judge(comparison, json.loads(line)))


def send(answers: IO[str], reply: dict[str, Any]) -> None:
    answers.write(json.dumps(reply) + "\n")
    answers.flush()


class Comparison:
    """math-verify's comparison over LaTeX only, with its rounding replaced (``exact.py``).

    Its plain-text reader is not used, and SymPy's, which it calls even for a numeral, ends in
    Python's ``eval``: in this process that last step is replaced by one that knows numerals and
    names only, so no model text reaches it. Decimals are read as the exact fractions they are.
    """

    def __init__(self) -> None:
        import sympy.physics.units  # noqa: F401  simplify imports it late, and its import reads names from text
        from latex2sympy2_extended.latex2sympy2 import ConversionConfig
        from math_verify import LatexExtractionConfig, grader, parser
        from sympy.parsing import sympy_parser

        sympy_parser.eval_expr = read_atom
        # M and m are two variables.
        case_kept = ConversionConfig(lowercase_symbols=False)
        parser.latex2sympy = partial(parser.latex2sympy, conversion_config=case_kept)
        read_quickly()
        reading = LatexExtractionConfig(boxed_match_priority=0)
        # Units were read before; its own list takes the m of 3m for one.
        settings = replace(reading.normalization_config, units=False)
        self.config = [replace(reading, normalization_config=settings)]
        self.positive: frozenset[str] = frozenset()
        self.whole: frozenset[str] = frozenset()
        # math-verify compares the members of its structures (sets, tuples, relations) with these
        # three functions; the first rounds to six places, so all three are replaced.
        grader.sympy_numeric_eq = self.equal_leaves
        grader.sympy_symbolic_eq = lambda gold, answer: False
        grader.sympy_compare_symbols = self.equal_leaves
        # simplify imports late: before the limits, not during a question
        self.compare({"gold": "x^2-1", "answer": "(x-1)(x+1)"})
        sympy.simplify(sympy.Symbol("x") ** 2 - 1)

    def compare(self, request: dict[str, Any]) -> tuple[bool, str]:
        """Whether the two LaTeX texts of ``request`` are equal, and why or why not."""
        from math_verify import verify

        self.positive = frozenset(request.get("positive", ()))
        self.whole = frozenset(request.get("whole", ()))
        wanted, given = self.parse(request["gold"]), self.parse(request["answer"])
        if not wanted:
            return False, "the gold answer is no expression"
        if not given:
            return False, "the answer is no expression"
        if given[0] == sympy.S.EmptySet and r"\emptyset" not in request["answer"]:
            return False, "conditions that nothing meets"
        rounded = self.equal_to_decimal(request, wanted[0], given[0])
        if rounded is not None:
            why = "equal when rounded"
            equal = rounded
        else:
            # Without math-verify's own timeout: the processor timer in judge() bounds the call.
            why = "equal expressions"
            equal = bool(verify(wanted, given, allow_set_relation_comp=True, timeout_seconds=None))
        if equal:
            return True, why
        return False, "different expressions"

    def parse(self, latex: str) -> list[Any]:
        """The readings of ``latex``.

        Alternatives ("x<1 or x>2") and conditions on one variable are one set, points and intervals
        beside each other a set of them, and values for several variables ("x=1, y=2") the point
        whose coordinates stand in the order of the names.
        """
        separators = ALTERNATIVES
        if RELATION.search(latex):
            separators = ALTERNATIVES_OF_SETS
        for separator, combine in ((separators, alternatives), (CONDITIONS, conjunction)):
            parts = [part.strip(" ,") for part in separator.split(latex)]
            parts = list(filter(None, parts))
            if len(parts) < 2:
                continue
            found = list(map(self.parse, parts))
            if not all(found):
                continue
            readings = combine([first for first, *_ in found])
            if readings:
                return readings
        found = self.parse_one(latex)
        if found or r"\pm" not in latex:
            return found
        # math-verify reads the sign before a whole value only.
        upper = self.parse_one(latex.replace(r"\pm", "+").replace(r"\mp", "-"))
        lower = self.parse_one(latex.replace(r"\pm", "-").replace(r"\mp", "+"))
        if not upper or not lower:
            return []
        return combined([upper[0], lower[0]], sympy.Union)

    def parse_one(self, latex: str) -> list[Any]:
        from math_verify import parse

        found: list[Any] = parse(
            f"${latex}$", self.config, fallback_mode="no_fallback", parsing_timeout=None
        )
        return found

    def equal_to_decimal(self, request: dict[str, Any], gold: Any, answer: Any) -> bool | None:
        """The verdict where one side alone is a long decimal; None elsewhere."""
        wanted = LONG_DECIMAL.fullmatch(request["gold"].strip())
        given = LONG_DECIMAL.fullmatch(request["answer"].strip())
        if (wanted is None) == (given is None):
            return None
        match, exact = given, gold
        if wanted:
            match, exact = wanted, answer
        if match is None or not isinstance(exact, sympy.Expr):
            return None
        value = Fraction(match.group().replace(" ", ""))
        return close_to_decimal(exact, value, len(match.group(1)))

    def equal_leaves(self, gold: Any, answer: Any, *rounding: int) -> bool:
        if isinstance(gold, sympy.Symbol) and isinstance(answer, sympy.Symbol):
            return bool(gold.name == answer.name)
        return equal_leaves(gold, answer, self.positive, self.whole)


def alternatives(parts: Sequence[Any]) -> list[Any]:
    """What holds where one of ``parts`` does; nothing where they are conditions on several
    variables.
    """
    return listed(parts) or combined(parts, sympy.Union)


def conjunction(parts: Sequence[Any]) -> list[Any]:
    """The values that meet all conditions; a list of values is their union ("x=1, x=2")."""
    point = assigned_point(parts)
    if point is not None:
        return [point]
    return listed(parts) or combined(parts, intersection)


def assigned_point(parts: Sequence[Any]) -> Any:
    """The values that ``parts`` give to different variables, in the order of their names; None
    where they are anything else.
    """
    values = {}
    for part in parts:
        if not isinstance(part, sympy.Eq) or not part.lhs.is_Symbol or part.lhs.name in values:
            return None
        values[part.lhs.name] = part.rhs
    return sympy.Tuple(*(values[name] for name in sorted(values)))


def listed(parts: Sequence[Any]) -> list[Any]:
    """Points or intervals as the set of them; intervals that do not meet also as their union."""
    members: list[Any] = []
    for part in parts:
        if isinstance(part, sympy.FiniteSet):
            members += part.args
        else:
            members.append(part)
    if not all(isinstance(member, (sympy.Interval, sympy.Tuple)) for member in members):
        return []
    readings = [sympy.FiniteSet(*members)]
    if all(isinstance(member, sympy.Interval) for member in members):
        union = sympy.Union(*members)
        if isinstance(union, sympy.Union) and len(union.args) == len(members):
            readings.append(union)
    return readings


def combined(parts: Sequence[Any], combine: Callable[..., Any]) -> list[Any]:
    """The solutions of ``parts`` in one set; nothing where one has none that can be told, or where
    they are conditions on several variables.
    """
    from latex2sympy2_extended.sets import FiniteSet

    if all(isinstance(part, sympy.Expr) for part in parts):
        # It remembers the order of the values, in which alone they may be a point's coordinates.
        return [FiniteSet(*parts)]
    names: set[str] = set()
    for part in parts:
        if isinstance(part, sympy.Eq) and part.lhs.is_Symbol:
            names.add(part.lhs.name)
        elif isinstance(part, sympy.Rel):
            names.update(symbol.name for symbol in part.free_symbols)
    sets = list(map(solution_set, parts))
    if len(names) > 1 or None in sets:
        return []
    return [combine(*sets)]


def intersection(*sets: Any) -> Any:
    if all(isinstance(values, sympy.FiniteSet) for values in sets):
        return sympy.Union(*sets)
    return sympy.Intersection(*sets)


def solution_set(condition: Any) -> Any:
    """The real numbers for which a condition on one variable holds; None where it is no
    condition.
    """
    if isinstance(condition, sympy.Set):
        return condition
    if isinstance(condition, sympy.Expr):
        return sympy.FiniteSet(condition)
    if isinstance(condition, sympy.Eq):
        if condition.lhs.is_Symbol:
            return sympy.FiniteSet(condition.rhs)
        return None
    try:
        return condition.as_set()
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return None


def read_atom(code: str, *_: object) -> Any:
    """The numeral or name in SymPy's call for it, ``Integer('12')``; a Float is its fraction."""
    match = ATOM.fullmatch(code)
    if not match:
        raise ValueError("only numerals and names are read from text")
    if match.group(1) == "Float":
        kind = "Rational"
    else:
        kind = match.group(1)
    return getattr(sympy, kind)(match.group(2))


def read_quickly() -> None:
    """Have the LaTeX grammar tried with ANTLR's SLL prediction first, then with its own, LL, which
    takes twice as long on sets.

    A text that SLL reads without a syntax error, LL reads in the same way (Parr, Harwell and Fisher
    2014, Adaptive LL(*)).
    """
    from antlr4.atn.PredictionMode import PredictionMode
    from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy

    create, parse, mode = _Latex2Sympy.create_parser, _Latex2Sympy.parse, PredictionMode.LL

    def create_parser(self: Any, latex: str) -> Any:
        parser = create(self, latex)
        parser._interp.predictionMode = mode
        return parser

    def parse_twice(self: Any, latex: str) -> Any:
        nonlocal mode
        try:
            mode = PredictionMode.SLL
            return parse(self, latex)
        except Exception:
            mode = PredictionMode.LL
            return parse(self, latex)

    _Latex2Sympy.create_parser, _Latex2Sympy.parse = create_parser, parse_twice


def judge(comparison: Comparison, request: dict[str, Any]) -> dict[str, Any]:
    try:
        limit_processor()
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        try:
            equal, why = comparison.compare(request)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except TooExpensive:
        equal, why = False, f"comparing took more than {CPU_SECONDS:g} s of processor time"
    except TooLarge:
        equal, why = False, "a number too large to compare"
    except MemoryError:
        equal, why = False, f"comparing took more than {MEMORY_BYTES >> 20} MiB"
    except Exception as error:
        equal, why = False, f"not comparable: {type(error).__name__}"
    return {"equal": equal, "why": why}


def on_timer(signum: int, frame: object) -> None:
    raise TooExpensive


def limit_memory() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY:
        bound = MEMORY_BYTES
    else:
        bound = min(MEMORY_BYTES, hard)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
    except (ValueError, OSError):  # not every kernel has it
        pass


def limit_processor() -> None:
    """Let the kernel end this process a second or two after the timer should have."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    bound = int(used.ru_utime + used.ru_stime + CPU_SECONDS) + 2
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard == resource.RLIM_INFINITY or bound < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (bound, hard))


if __name__ == "__main__":
    main()
