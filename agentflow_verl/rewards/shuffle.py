"""Options of a multiple-choice question in another order, so that a model's liking for a letter
earns nothing.

    text, shown = shuffle(question, ["A. iron", "B. zinc", "C. lead"], seed=0, key="gpqa/17")
    choice.score_choice("B", "A. iron", options=[…], shown=shown)
    # "B" is read in the order that was shown

``shown`` names the option behind each letter: "CAB" puts option C under the letter A. The row keeps
its own options and gold answer; only what the model reads changes, and the scorer maps its letter
back.
"""

from __future__ import annotations

import random
import re
from typing import Any

from agentflow_verl.rewards.options import read_options

# "All of the above", "both A and B", "A and C": texts that mean other options by place or letter.
TELLS_OF_OTHERS = re.compile(
    r"\b(?i:all|none|any|both|either|neither|each|two|more than one) (?i:of )?(?:the"
    r" )?(?i:above|below|these|following|others?|other options)\b"
    r"|\b(?i:options?|choices?|answers?|both|either|neither)\s+\(?[A-Z]\b"
    r"|^\W*[A-Z]\W{0,2}(?:\s*,\s*\(?[A-Z]\W{0,2})*\s*(?:and|or|&)\s*\(?[A-Z]\W*$"
)


def shuffle(question: str, options: Any, seed: int, key: str) -> tuple[str, str]:
    """The question with its options in an order drawn from ``seed`` and ``key``, and that order.

    Options that the question lists, a line each with its letter, are replaced where they stand; a
    question that lists none gets the list at its end. The order stays as it is where an option
    speaks of others ("all of the above"), and where the question lists its options in a way that is
    not recognised.

    Raises:
        ConfigError: more options than letters.
    """
    texts = read_options(options)
    letters = list(texts)
    unchanged = "".join(letters)
    if any(TELLS_OF_OTHERS.search(text) for text in texts.values()):
        return question, unchanged
    drawn = random.Random(f"{seed}/{key}").sample(letters, len(letters))
    under = {}
    for letter, source in zip(letters, drawn, strict=True):
        under[letter] = texts[source].strip()
    counts = set()
    for letter, text in texts.items():
        counts.add(len(listing(letter, text).findall(question)))
    # Each option is listed, and as often as every other: the lists are complete.
    if len(counts) == 1 and 0 not in counts:
        return replace(question, texts, under), "".join(drawn)
    if any(text.strip() in question for text in texts.values()):
        return question, unchanged
    lines = [question.rstrip()]
    for letter, text in under.items():
        lines.append(f"{letter}. {text}")
    return "\n".join(lines), "".join(drawn)


def listing(letter: str, text: str) -> re.Pattern[str]:
    """A line that lists one option: its letter, then its text."""
    return re.compile(
        rf"^([ \t]*(?:\({letter}\)|{letter}[.):])[ \t]*){re.escape(text.strip())}[ \t]*$",
        re.MULTILINE,
    )


def replace(question: str, texts: dict[str, str], under: dict[str, str]) -> str:
    """Every listed option's line with the text that now stands under its letter."""
    # By position and in one pass, so that a line already replaced is not matched again.
    lines: dict[tuple[int, int], str] = {}
    for letter, text in texts.items():
        for match in listing(letter, text).finditer(question):
            lines[match.span()] = match.group(1) + under[letter]
    parts, end = [], 0
    for (start, stop), line in sorted(lines.items()):
        parts += [question[end:start], line]
        end = stop
    return "".join([*parts, question[end:]])
