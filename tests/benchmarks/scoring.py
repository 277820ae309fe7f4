"""How fast answers are scored on one core: python -m tests.benchmarks.scoring [--json FILE].

Rates are answers per CPU second, the maths scorer's worker process included, on answers that no
cache has seen: QA answers in the wordings of the hand-written cases, maths answers half plain
numbers and half expressions that need the algebra. Pathological expressions are timed one by one:
each has to be given up within the worker's limit.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from agentflow_verl.rewards.math import equality as maths
from agentflow_verl.rewards.math import worker_pool as algebra
from agentflow_verl.rewards.registry import scorer
from tests.rewards.math.test_equality import PATHOLOGICAL
from tests.rewards.qa.test_match import DIFFERENT, SAME
from tests.rewards.test_gaia import DIFFERENT as GAIA_DIFFERENT
from tests.rewards.test_gaia import SAME as GAIA_SAME

logger = logging.getLogger(__name__)

OPTIONS = ["Hemolytic uremic syndrome", "Oral ulcers", "Colorectal cancer", "Pancreatic cancer"]
TARGETS = {"qa": 5_000, "maths": 200}  # answers a second, of the project's own
Case = tuple[str, object, dict]


def cases(name: str, count: int) -> list[Case]:
    """``count`` answers with their gold answers; no two answers are the same."""
    pairs = {
        "qa": [pair for pair in SAME + DIFFERENT if pair[1] not in ("yes", "no")],
        "gaia": GAIA_SAME + GAIA_DIFFERENT,
    }
    if name in pairs:
        given = [pairs[name][number % len(pairs[name])] for number in range(count)]
        return [
            (f"{answer} {'QW'[number % 2]}{number}", f"{gold} Q{number}", {})
            for number, (answer, gold) in enumerate(given)
        ]
    if name == "choice":
        written = [
            "{}",
            "({}) because of case %d",
            "The answer is {}, see %d",
            "**{}**",
            "option {}",
        ]
        texts = [
            written[number % len(written)].format("ABCD"[number % 4]) for number in range(count)
        ]
        return [
            (text % number if "%d" in text else text, "C", {"options": OPTIONS})
            for number, text in enumerate(texts)
        ]
    if name == "game24":
        return [_game(number, number % 2) for number in range(count)]
    return [
        case
        for number in range(1, count // 2 + 1)
        for case in (_number(number), _expression(number))
    ]


def _game(number: int, off: int) -> Case:
    row = {
        "numbers": [number, 1, 8, number, 3, 8, 3],
        "target": 8 * (number + 1) - 3 * number + off,
    }
    return f"({number} + 1) × 8 - {number} / (3 - 8/3)", row, {}


def _number(number: int) -> Case:
    return rf"\frac{{{number}}}{{{number + 1}}}", f"{number / (number + 1):.8f}", {}


def _expression(number: int) -> Case:
    kinds = (
        (rf"{number}\sqrt{{2}}+1", rf"1+\sqrt{{{2 * number * number}}}"),
        (rf"(x+{number})(x-{number})", f"x^2-{number * number}"),
        (
            rf"\left(-\infty, {number}\right)\cup({number + 1}, \infty)",
            rf"(-\infty,{number})\cup({number + 1},\infty)",
        ),
        (rf"\frac{{\pi}}{{{number}}}", rf"\frac{{2\pi}}{{{2 * number + 1}}}"),
    )
    return (*kinds[number % len(kinds)], {})


def cpu_seconds() -> float:
    """Of this process and of the algebra's living workers."""
    ticks = os.sysconf("SC_CLK_TCK")
    children = 0.0
    for worker in algebra.algebra().idle:
        fields = Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()
        children += (int(fields[11]) + int(fields[12])) / ticks
    return time.process_time() + children


def spent(work: Callable[[], object]) -> float:
    before = cpu_seconds()
    work()
    return cpu_seconds() - before


def rate(name: str, given: Sequence[Case]) -> dict[str, float]:
    judge, rights = scorer(name), 0.0

    def work() -> None:
        nonlocal rights
        for answer, gold, extra in given:
            rights += judge(answer, gold, **extra).value

    seconds = spent(work)
    return {
        "answers": len(given),
        "right": rights,
        "answers_per_cpu_s": len(given) / seconds,
        **({"target": TARGETS[name]} if name in TARGETS else {}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument(
        "--answers", type=int, default=4_000, help="of each kind; a tenth of it for maths"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the answers")
    given = parser.parse_args()
    if given.quick:
        given.answers //= 10
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    maths.score_math("x+y", "y+x")  # starts the worker: its import is not what is measured
    found: dict[str, dict[str, float]] = {}
    for name in ("qa", "gaia", "choice", "game24", "maths"):
        found[name] = rate(
            name, cases(name, given.answers // 10 if name == "maths" else given.answers)
        )
        logger.info("%-8s %8.0f answers/s", name, found[name]["answers_per_cpu_s"])
    hostile = {expression[:60]: time_of(expression) for expression in PATHOLOGICAL}
    for expression, seconds in hostile.items():
        logger.info("given up after %5.2f s   %s", seconds, expression)
    if given.json:
        given.json.write_text(
            json.dumps({"rates": found, "pathological_wall_s": hostile}, indent=2) + "\n"
        )


def time_of(expression: str) -> float:
    start = time.perf_counter()
    assert maths.score_math(expression, "7").value == 0.0
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
