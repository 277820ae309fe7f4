r"""Multiple choice: which option did the answer name, and is it the gold one?

The gold option is given as its text, its letter, or both ("B. text"). The answer may name it the
same three ways, wrapped in "option", "(…)", emphasis or LaTeX, or hold exactly one option's text
within a short sentence.

Blind spots: a sentence that rejects an option ("not cocaine") names it all the same; options whose
text is itself a letter of another option are read as text first; without options only letters and
equal texts match.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Mapping
from typing import Any

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.rewards.score import GroundTruth, Score, as_list, gold_answers, right, wrong

MAX_CHARS = 2_000

LABEL = re.compile(r"\s*[(\[]?([A-Za-z])\s?[.):\]]\s+(.*)", re.DOTALL)
ALONE = re.compile(
    r"[\W_]*(?:(?:option|choice|answer|letter)\b[\s:]*(?:is\s+)?)?[\W_]*([A-Za-z])[\W_]*",
    re.IGNORECASE,
)
LED = re.compile(
    r"[\W_]*(?:(?:the\s+)?(?:correct\s+|final\s+|best\s+)*(?:option|choice|answer)\b[\s:]*(?:is\s+)?(?:option\s+)?)?"
    r"(?:[(\[]\s?([A-Za-z])\s?[)\]]|([A-Za-z])\s?[.):])[\s*_}]*(.*)",
    re.IGNORECASE | re.DOTALL,
)
FURTHER = re.compile(r"(?:[(\[]|\b(?:and|or)\s|,)\s*\(?([A-Za-z])\b")
MARKUP = re.compile(r"\\(?:text|textbf|mathbf|mathrm|boxed)(?![a-zA-Z])|[{}$`]|\*\*|__|\\[()\[\]]")


def score(answer: str, ground_truth: GroundTruth, **extra: Any) -> Score:
    """1 when ``answer`` names the gold option. ``extra["options"]``: a list (with "A. " or
    without), or a dict; ``extra["shown"]``: the order in which the model saw them (shuffle.py),
    their own where it is missing.

    Raises:
        ConfigError: no gold answer, or one that is no option, or an order of other options.
    """
    options = read_options(extra.get("options"))
    gold = read_gold(ground_truth, options)
    source = read_order(extra.get("shown"), options)
    if len(answer) > MAX_CHARS:
        return wrong(f"longer than {MAX_CHARS} characters")
    named, why = read_choice(answer, {letter: options[source[letter]] for letter in options}, gold)
    named = source.get(named, named)
    if named is None:
        return wrong(why)
    return (
        right(why)
        if named in gold
        else wrong(f"names {named}, not {' or '.join(sorted(gold))[:40]}")
    )


def read_options(options: Any) -> dict[str, str]:
    """Options by upper-case letter; a list is lettered in order, or by its own labels when all
    carry one.
    """
    if options is None:
        return {}
    if isinstance(options, Mapping):
        return {
            str(letter).strip().upper(): str(text)
            for letter, text in options.items()
            if text is not None
        }
    texts = [str(option) for option in as_list(options)]
    labels = [LABEL.fullmatch(text) for text in texts]
    if texts and all(labels) and len({label.group(1).upper() for label in labels}) == len(texts):
        return {label.group(1).upper(): label.group(2) for label in labels}
    if len(texts) > len(string.ascii_uppercase):
        raise ConfigError(f"{len(texts)} options: at most 26 can be lettered")
    return dict(zip(string.ascii_uppercase, texts, strict=False))


def read_order(shown: str | None, options: dict[str, str]) -> dict[str, str]:
    """The option's own letter by the letter under which it was shown."""
    shown = "".join(options) if shown is None else str(shown).upper()
    if sorted(shown) != sorted(options):
        raise ConfigError(f"shown={shown!r} is no order of the options {''.join(options)}")
    return dict(zip(options, shown, strict=True))


def read_gold(ground_truth: GroundTruth, options: dict[str, str]) -> set[str]:
    """The gold letters, or the tidied gold texts where there are no options."""
    found = set()
    for gold in gold_answers(ground_truth):
        letter, label = gold.strip().upper(), LABEL.fullmatch(gold)
        if not options:
            found.add(letter if len(letter) == 1 else tidy(gold))
            continue
        texts = by_text(options, gold) or (by_text(options, label.group(2)) if label else [])
        texts = texts or ([letter] if letter in options else by_words(options, gold))
        if len(texts) == 1:
            found.add(texts[0])
        elif label and label.group(1).upper() in texts:
            found.add(label.group(1).upper())
        else:
            raise ConfigError(
                f"gold answer {gold[:60]!r} is none, or more than one, of the options"
                f" {list(options)}"
            )
    return found


def read_choice(answer: str, options: dict[str, str], gold: set[str]) -> tuple[str | None, str]:
    """The letter that ``answer`` names (its tidied text where there are no options), or None, and
    why.
    """
    text = MARKUP.sub(" ", answer).strip()
    if not options:
        return read_without_options(text, gold)
    same = by_text(options, text)
    if len(same) == 1:
        return same[0], "names the option's text"
    alone = ALONE.fullmatch(text)
    if alone:
        letter = alone.group(1).upper()
        return (
            (letter, "names the letter")
            if letter in options
            else (None, f"there is no option {letter}")
        )
    led = LED.fullmatch(text)
    if led and (led.group(1) or led.group(2)).upper() in options:
        return check_label((led.group(1) or led.group(2)).upper(), led.group(3), options)
    same = by_words(options, text)
    if len(same) == 1:
        return same[0], "names the option's words"
    held = held_in(text, options)
    if len(held) == 1:
        return held[0], "holds one option's text"
    return None, "names more than one option" if held else "names no option"


def read_without_options(text: str, gold: set[str]) -> tuple[str | None, str]:
    if tidy(text) in gold:
        return tidy(text), "equals the gold text"
    alone = ALONE.fullmatch(text) or LED.fullmatch(text)
    letter = next((group for group in alone.groups()[:2] if group), "").upper() if alone else ""
    return (letter, "names the letter") if letter else (None, "names no option")


def check_label(letter: str, rest: str, options: dict[str, str]) -> tuple[str | None, str]:
    """A label followed by text: the text must not be another option's, nor name further letters."""
    others = by_text(options, rest) or by_words(options, rest) or held_in(rest, options)
    if others == [letter]:
        return letter, "names the letter and its text"
    if others:
        return None, f"the letter {letter} and the text disagree"
    further = {found.group(1).upper() for found in FURTHER.finditer(rest)}
    if (further & set(options)) - {letter}:
        return None, "names more than one option"
    return letter, "names the letter"


def tidy(text: str) -> str:
    """Case, width, blanks and outer punctuation do not count; signs inside do (arrows, %, +)."""
    text = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return text.strip(" .,;:!?'\"“”‘’") or text


def words(text: str) -> str:
    """Only letters and digits, blank-separated: for texts that differ in hyphens and commas."""
    return " ".join(re.findall(r"[^\W_]+|[%+]", unicodedata.normalize("NFKC", text).casefold()))


def by_text(options: dict[str, str], text: str) -> list[str]:
    """Letters of the options with this tidied text."""
    return [letter for letter, option in options.items() if tidy(option) == tidy(text)]


def by_words(options: dict[str, str], text: str) -> list[str]:
    """Letters of the options with these words, whatever stands between them."""
    sought = words(text)
    return (
        [letter for letter, option in options.items() if words(option) == sought] if sought else []
    )


def held_in(text: str, options: dict[str, str]) -> list[str]:
    """Letters of the options whose words stand in ``text``; one that is part of a longer such
    option is left out.
    """
    whole = f" {words(text)} "
    found = {
        letter: f" {words(option)} " for letter, option in options.items() if len(words(option)) > 1
    }
    found = {letter: option for letter, option in found.items() if option in whole}
    return [
        letter
        for letter, option in found.items()
        if not any(option != other and option in other for other in found.values())
    ]
