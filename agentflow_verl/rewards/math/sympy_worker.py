"""Compare two LaTeX expressions with math-verify, in a process of its own.

``python -m agentflow_verl.rewards.math.sympy_worker`` reads one JSON object a line from standard
input, ``{"gold": latex, "answer": latex}``, and writes one a line, ``{"equal": bool, "why":
text}``.

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
from dataclasses import replace

CPU_SECONDS = 2.0
MEMORY_BYTES = 2 << 30
ATOM = re.compile(
    r"\s*(Integer|Float|Symbol)\s*\(\s*'?([0-9A-Za-z_.]+)'?\s*\)\s*"
)  # as SymPy's tokenizer writes one


class TooExpensive(BaseException):
    """The timer fired. Not an Exception, so that the algebra's own error handling lets it through."""


def main() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    sys.stdout = sys.stderr  # a library's print must not reach the wire
    logging.disable(logging.CRITICAL)
    compare = load()
    limit_memory()
    signal.signal(signal.SIGPROF, on_timer)
    say(answers, {"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        say(answers, judge(compare, request["gold"], request["answer"]))


def say(answers, reply: dict) -> None:
    answers.write(json.dumps(reply) + "\n")
    answers.flush()


def load():
    """math-verify's comparison over LaTeX only.

    Its plain-text reader is not used, and SymPy's, which it calls even for a numeral, ends in
    Python's ``eval``: in this process that last step is replaced by one that knows numerals and
    names only, so no model text reaches it.
    """
    import sympy.physics.units  # noqa: F401  simplify imports it late, and its import reads names from text
    from math_verify import LatexExtractionConfig, parse, verify
    from sympy.parsing import sympy_parser

    def atom(code: str, *_: object) -> object:
        match = ATOM.fullmatch(code)
        if not match:
            raise ValueError("only numerals and names are read from text")
        return getattr(sympy, match.group(1))(match.group(2))

    sympy_parser.eval_expr = atom
    read_quickly()
    reading = LatexExtractionConfig(boxed_match_priority=0)
    # Units were read before; its own list takes the m of 3m for one.
    config = [
        replace(reading, normalization_config=replace(reading.normalization_config, units=False))
    ]

    def read(latex: str) -> list:
        return parse(f"${latex}$", config, fallback_mode="no_fallback", parsing_timeout=None)

    def compare(gold: str, answer: str) -> tuple[bool, str]:
        wanted, given = read(gold), read(answer)
        if not wanted or not given:
            return (
                False,
                "the answer is no expression" if wanted else "the gold answer is no expression",
            )
        equal = bool(verify(wanted, given, timeout_seconds=None))
        return equal, "equal expressions" if equal else "different expressions"

    compare(
        "x^2-1", "(x-1)(x+1)"
    )  # simplify imports late: before the limits, not during a question
    return compare


def read_quickly() -> None:
    """Have the LaTeX grammar tried with ANTLR's SLL prediction first, then with its own, LL, which
    takes twice as long on sets.

    A text that SLL reads without a syntax error, LL reads in the same way (Parr, Harwell and Fisher
    2014, Adaptive LL(*)).
    """
    from antlr4.atn.PredictionMode import PredictionMode
    from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy

    create, parse, mode = _Latex2Sympy.create_parser, _Latex2Sympy.parse, PredictionMode.LL

    def create_parser(self, latex: str):
        parser = create(self, latex)
        parser._interp.predictionMode = mode
        return parser

    def parse_twice(self, latex: str):
        nonlocal mode
        try:
            mode = PredictionMode.SLL
            return parse(self, latex)
        except Exception:
            mode = PredictionMode.LL
            return parse(self, latex)

    _Latex2Sympy.create_parser, _Latex2Sympy.parse = create_parser, parse_twice


def judge(compare, gold: str, answer: str) -> dict:
    try:
        limit_processor()
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        try:
            equal, why = compare(gold, answer)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except TooExpensive:
        equal, why = False, f"comparing took more than {CPU_SECONDS:g} s of processor time"
    except MemoryError:
        equal, why = False, f"comparing took more than {MEMORY_BYTES >> 20} MiB"
    except Exception as error:
        equal, why = False, f"not comparable: {type(error).__name__}"
    return {"equal": equal, "why": why}


def on_timer(signum: int, frame: object) -> None:
    raise TooExpensive


def limit_memory() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
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
