r"""Maths answers: numbers exactly, words as words, everything else by algebra in a bounded worker
process.

An answer is right when it is, after ``latex.clean_answer``, the gold answer's text, the same number
(``numbers.py``, ``number_bases.py``, ``words.py``), the same time or ratio (``ratios.py``), or an
equal expression, set, interval, tuple, matrix, equation or inequality as math-verify
(https://github.com/huggingface/Math-Verify, on SymPy) judges it with exact comparison
(``exact.py``). The case of a letter counts, that of a word does not. A chain ``a = b = c`` states
its last member and must be true. An expression of the question that is not worked out is wrong
(``restatement.py``). An option's letter before its value, "(C) 5", may be left out or stand alone.

Guards: answers beyond ``MAX_CHARS``, deeper than ``MAX_DEPTH`` or with numerals beyond
``MAX_DIGITS`` digits are wrong unless they are the gold's text; the rest is compared within two CPU
seconds.

Blind spots: ``(1,2)`` is read both as a point and as an open interval, and ``3:10`` beside ``6:20``
as a time and not as a ratio; ``I`` is the imaginary unit; "1,234" is one number and never a list; a
unit on one side only is ignored and units are not converted (cents are); a decimal with fewer than
six places is not a rounded surd (``9.4248`` for ``3\pi``); words match as text only; of several
gold answers any one suffices.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from agentflow_verl.flow.statement import stated_value
from agentflow_verl.rewards.math.chains import Chain, split_chain
from agentflow_verl.rewards.math.latex import clean_answer, to_latex
from agentflow_verl.rewards.math.number_bases import compare_based
from agentflow_verl.rewards.math.numbers import (
    Quantity,
    equal_quantities,
    parse_quantity,
    with_fractions,
    without_asked_scale,
)
from agentflow_verl.rewards.math.ratios import compare_times, ratio_members
from agentflow_verl.rewards.math.restatement import canonical, restates, stands_in
from agentflow_verl.rewards.math.units import split_unit
from agentflow_verl.rewards.math.variables import Variables, read_variables
from agentflow_verl.rewards.math.words import spelled_number, word_answer
from agentflow_verl.rewards.math.worker_pool import equal_expressions
from agentflow_verl.rewards.score import GroundTruth, Score, gold_answers, right, wrong

MAX_CHARS = 500
MAX_DEPTH = 25
MAX_DIGITS = 200

# Primes and transposition, which the algebra's reader drops.
DROPPED_MARKS = re.compile(r"['’′]|\\prime(?![a-zA-Z])|[A-Z]\s*\^\s*\{?\s*(?:T|\\top)(?![a-zA-Z])")
# "\\textbf{(C)}\\ 5" and "(C) 5": the letter of an option before its value.
OPTION_ALONE = re.compile(r"\(?([A-E])\)?")
OPTION = re.compile(
    r"(?:\\(?:textbf|text|mathbf|mathrm)\s?\{)?\s*\(([A-E])\)(?:[\s~}]|\\ |\\,)+"
    r"(?!\(?[A-E]\)?$)([^\s~}].*)",
    re.DOTALL,
)
LONG_NUMERAL = re.compile(rf"[0-9]{{{MAX_DIGITS + 1}}}")


@dataclass(frozen=True)
class Task:
    """What a comparison knows of the question."""

    question: str
    data_source: str
    variables: Variables


def score_math(answer: str, ground_truth: GroundTruth, **extra: Any) -> Score:
    """1 when ``answer`` equals any gold answer. ``extra["question"]`` tells what is restated, which
    variables are positive, and which base, scale or percentage is asked for.

    Raises:
        ConfigError: no gold answer, or math-verify is missing.
        InfraError: the algebra's worker processes cannot run.
    """
    golds = gold_answers(ground_truth)
    if not answer.strip():
        return wrong("empty answer")
    # Before any limit, so that a gold answer of any size matches itself.
    if any(answer.strip() == gold.strip() for gold in golds):
        return right("same text")
    refusal = too_large(answer)
    if refusal:
        return wrong(refusal)
    question = str(extra.get("question") or "")
    task = Task(question, str(extra.get("data_source") or ""), read_variables(question))
    given = clean_answer(answer)
    why = ""
    for gold in golds:
        same, why = compare_answers(given, clean_answer(gold), task)
        if not same:
            same, found = compare_options(answer, gold, task)
            why = found or why
        if same:
            return right(why)
    # The whole text differs: perhaps it is a sentence that states the value, "the answer is 5".
    stated = stated_value(given)
    if not stated or stated == given:
        return wrong(why)
    for gold in golds:
        same, why = compare_answers(clean_answer(stated), clean_answer(gold), task)
        if same:
            return right(why)
    return wrong(why)


def too_large(answer: str) -> str:
    """Why the algebra is not tried on ``answer``, or ""."""
    if len(answer) > MAX_CHARS:
        return f"longer than {MAX_CHARS} characters"
    # The algebra's parser recurses once per bracket.
    depth = deepest = 0
    for sign in answer:
        depth += (sign in "({[") - (sign in ")}]")
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        return f"nested deeper than {MAX_DEPTH}"
    if LONG_NUMERAL.search(answer):
        return f"a numeral of more than {MAX_DIGITS} digits"
    return ""


def compare_answers(answer: str, gold: str, task: Task) -> tuple[bool, str]:
    """Whether two cleaned texts say the same, and why or why not."""
    if not answer or not gold:
        return False, "empty answer"
    if without_blanks(answer) == without_blanks(gold):
        return True, "same text"
    chain = split_chain(answer)
    if chain is None or "=" in gold:
        return compare_members(answer, gold, task)
    return compare_chain(chain, gold, task)


def compare_options(answer: str, gold: str, task: Task) -> tuple[bool, str]:
    """Whether an option's letter or its value agrees, and why or why not; "" where neither text has
    both. Where both have both, letter and value must agree.
    """
    (letter, value), (gold_letter, gold_value) = option_parts(answer), option_parts(gold)
    if not (letter and value) and not (gold_letter and gold_value):
        return False, ""
    if letter and gold_letter and letter != gold_letter:
        return False, "another option"
    if value and gold_value:
        return compare_answers(value, gold_value, task)
    return verdict(letter == gold_letter, "same option", "another option")


def option_parts(text: str) -> tuple[str, str]:
    """The letter of an option and its value, "" for what ``text`` lacks."""
    match = OPTION.fullmatch(text.strip())
    if match:
        return match[1], clean_answer(match[2])
    cleaned = clean_answer(text)
    alone = OPTION_ALONE.fullmatch(cleaned)
    if alone:
        return alone[1], ""
    return "", cleaned


def compare_chain(chain: Chain, gold: str, task: Task) -> tuple[bool, str]:
    """A chain is right when its last member is and no other value in it differs.

    One member must be worked out; the question's own expression may stand before it.
    """
    if all(is_restated(value, gold, task) for value in chain.values):
        return False, "restates the question"
    for value in chain.values:
        same, why = compare_values(value, gold, task)
        if same:
            continue
        if value is chain.values[-1]:
            return False, why
        return False, "a chain of different values"
    return True, "a true chain that ends in the gold answer"


def compare_members(answer: str, gold: str, task: Task) -> tuple[bool, str]:
    same, why = compare_values(answer, gold, task)
    if same and is_restated(answer, gold, task):
        return False, "restates the question"
    return same, why


def is_restated(answer: str, gold: str, task: Task) -> bool:
    """Whether ``answer`` repeats the question where the gold answer does not."""
    if canonical(answer) == canonical(gold):
        return False
    if stands_in(answer, task.question):
        return True
    if not restates(answer, task.question, task.data_source):
        return False
    return not restates(gold, task.question, task.data_source)


def compare_values(answer: str, gold: str, task: Task) -> tuple[bool, str]:
    """Whether two texts without chains are one value."""
    if without_blanks(answer) == without_blanks(gold):
        return True, "same text"
    same_time = compare_times(answer, gold)
    if same_time is not None:
        return verdict(same_time, "same time", "different times")
    given_members, wanted_members = ratio_members(answer), ratio_members(gold)
    if given_members or wanted_members:
        return compare_ratios(given_members, wanted_members, task)
    based = compare_based(answer, gold, task.question)
    if based is not None:
        return verdict(based, "same numeral in its base", "different numerals or bases")
    given = quantity_of(without_asked_scale(answer, task.question))
    wanted = quantity_of(without_asked_scale(gold, task.question))
    if given and wanted:
        same = equal_quantities(given, wanted, task.question)
        return verdict(same, "same number", "different numbers")
    given_word, wanted_word = word_answer(answer), word_answer(gold)
    if given_word is not None or wanted_word is not None:
        return verdict(given_word == wanted_word, "same words", "different words")
    (answer, given_unit), (gold, wanted_unit) = split_unit(answer), split_unit(gold)
    if given_unit and wanted_unit and given_unit != wanted_unit:
        return False, "different units"
    if len(DROPPED_MARKS.findall(answer)) != len(DROPPED_MARKS.findall(gold)):
        return False, "different marks"
    return equal_expressions(
        to_latex(with_fractions(gold)),
        to_latex(with_fractions(answer)),
        task.variables.positive,
        task.variables.whole,
    )


def compare_ratios(answer: list[str], gold: list[str], task: Task) -> tuple[bool, str]:
    """Whether the members of two ratios are proportional, in this order."""
    if len(answer) != len(gold):
        return False, "different ratios"
    for given, wanted in zip(answer[1:], gold[1:], strict=True):
        quotient, expected = rf"\frac{{{given}}}{{{answer[0]}}}", rf"\frac{{{wanted}}}{{{gold[0]}}}"
        if not compare_values(quotient, expected, task)[0]:
            return False, "different ratios"
    return True, "same ratio"


def verdict(same: bool, why: str, why_not: str) -> tuple[bool, str]:
    """Whether two texts are equal, with the reason that belongs to it."""
    if same:
        return True, why
    return False, why_not


def quantity_of(text: str) -> Quantity | None:
    """The number that ``text`` is, in digits or in words, perhaps with a unit."""
    found = parse_quantity(text)
    if found is not None:
        return found
    spelled = spelled_number(text)
    if spelled is not None:
        return Quantity(spelled, None, False, "")
    number, _, unit = text.rpartition(" ")
    spelled = spelled_number(number)
    if spelled is None or spelled.denominator != 1:
        return None
    return parse_quantity(f"{spelled} {unit}")


def without_blanks(text: str) -> str:
    """``text`` without the blanks that change nothing: "5 1/2" is not "51/2"."""
    single = " ".join(text.replace(r"\,", " ").split())
    return re.sub(r"(?<![0-9]) | (?![0-9])", "", single)
