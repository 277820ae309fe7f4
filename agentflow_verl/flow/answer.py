r"""The final answer in a generator's text: one rule, for training and for evaluation.

The rule, first match wins:

1. the last ``<answer>…</answer>`` (any letter case; a last tag left open runs to the end; empty
   pairs are passed over);
2. the last balanced ``\boxed{…}``, the innermost when they nest;
3. the last line that says "Answer: …" or "The answer is …" (the next line when the phrase ends its
   own line);
4. the last non-empty line.

What a tag holds is read once more by 2 and 3, so ``<answer>The answer is \boxed{7}.</answer>``
gives 7. Reasoning up to the last ``</think>`` is left out when text follows it. Emphasis marks and
a ``\text{…}`` around the whole answer are dropped. Only the last ``TAIL`` characters are read. The
work is linear in their number.
"""

from __future__ import annotations

import re

TAIL = 100_000
"""Characters read, from the end: far beyond a generator's longest response."""

OPEN = re.compile(r"<answer>", re.IGNORECASE)
CLOSE = re.compile(r"</answer>", re.IGNORECASE)
END_OF_REASONING = re.compile(r"</think>", re.IGNORECASE)
BRACES = re.compile(r"\\(?:boxed|fbox)[ \t]?\{|\\.|[{}]", re.DOTALL)
PHRASE = re.compile(
    r"^[\W_]{0,8}(?:(?:so|thus|hence|therefore|finally)\b[,"
    r" ]{0,2})?(?:(?:the|my|our)\s)?(?:final\s|correct\s)?"
    r"answer(?:\s?(?:\*\*|__)?\s?[:=]|\s(?:is|was)\b\s?:?)(.*)$",
    re.IGNORECASE,
)
WRAPPED = re.compile(r"\\(?:text|textbf|mathbf|mathrm|textrm|bf)\s?\{([^{}]*)\}", re.DOTALL)


def extract_answer(text: object) -> str:
    """The final answer by the rule above, trimmed; "" when the text holds none. Never raises."""
    text = text if isinstance(text, str) else "" if text is None else str(text)
    text = after_reasoning(text[-TAIL:])
    tagged = in_tags(text)
    if tagged is None:
        found = boxed(text) or phrased(text) or last_line(text)
    else:
        found = boxed(tagged) or phrased(tagged) or tagged
    return unwrap(found)


def after_reasoning(text: str) -> str:
    """What follows the last ``</think>``, or the whole text when nothing does."""
    rest = END_OF_REASONING.split(text)[-1]
    return rest if rest.strip() else text


def in_tags(text: str) -> str | None:
    """The content of the last answer tag that holds anything; "" when all are empty, None when
    there is none.
    """
    opened = [match.end() for match in OPEN.finditer(text)]
    if not opened:
        return None
    closed = [match.start() for match in CLOSE.finditer(text)]
    end = len(text)
    for start in reversed(opened):
        while closed and closed[-1] >= start:
            end = closed.pop()
        content = text[start:end].strip()
        if content:
            return content
        end = start - len("<answer>")
    return ""


def boxed(text: str) -> str:
    r"""The content of the last balanced ``\boxed{…}`` that is not blank, else ""."""
    best = (0, 0)
    stack: list[int] = []
    for match in BRACES.finditer(text):
        token = match.group()
        if token == "}":
            start = stack.pop() if stack else 0
            if (
                start > best[0]
                and not text[start : match.start()].isspace()
                and start < match.start()
            ):
                best = (start, match.start())
        elif token.endswith("{") and len(token) != 2:  # "{" opens a group, "\{" is a printed brace
            stack.append(match.end() if token != "{" else 0)
    return text[best[0] : best[1]].strip()


def phrased(text: str) -> str:
    """What the last "Answer: …" or "The answer is …" line states, else ""."""
    following = ""
    for line in reversed(text.splitlines()):
        match = PHRASE.match(line)
        if match:
            stated = bare(match.group(1)) or bare(following)
            if stated:
                return stated
        following = line if line.strip() else following
    return ""


def last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def bare(text: str) -> str:
    """Without surrounding blanks and paired or dangling emphasis marks."""
    text = text.strip()
    for mark in ("**", "`"):
        if text.endswith(mark + "."):
            text = text[:-1]
        if text.startswith(mark) or text.endswith(mark):
            text = text.removeprefix(mark).removesuffix(mark).strip()
    return text


def unwrap(text: str) -> str:
    r"""Without emphasis marks and a ``\text{…}`` that hold the whole answer."""
    text = bare(text)
    match = WRAPPED.fullmatch(text)
    return match.group(1).strip() if match else text
