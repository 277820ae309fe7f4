r"""The final answer in a generator's text: one rule, for training and for evaluation.

The rule, first match wins:

1. the last ``<answer>…</answer>`` (any letter case, blanks inside the tags; a last tag left open or
   cut runs to the end; empty pairs and tags that the text only mentions are passed over);
2. the last balanced ``\boxed{…}``, the innermost when they nest;
3. the last ``"answer": …`` of a JSON object;
4. the last line that says "Answer: …" or "The answer is …" (the next line when the phrase ends its
   own line), in English or Chinese, without comments behind it (``statement``);
5. what the last sentence states ("The GCD is 5.", "34 - 45 = -11", "They have a GCD of 5"), or that
   sentence.

What a tag holds is read once more by 2 to 4, so ``<answer>The answer is \boxed{7}.</answer>`` gives
7. Reasoning up to the last ``</think>`` is left out when text follows it, and so is what follows a
chat template's end of a turn. Invisible characters,
fences, emphasis marks and a ``\text{…}`` around the whole answer are dropped; dots alone are no
answer. Only the last ``TAIL`` characters are read. The work is linear in their number.
"""

from __future__ import annotations

import json
import re

from agentflow_verl.flow.parse.clean import this_turn
from agentflow_verl.flow.statement import labelled, last_statement, without_emphasis

TAIL = 100_000
"""Characters read, from the end: far beyond a generator's longest response."""

# Soft hyphen, zero-width characters, direction marks and the byte order mark.
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
# Tags as models write them: any case, full-width or escaped brackets, "final_answer".
TAG_NAME = r"(?:final[_ -]?)?answer"
OPEN = re.compile(rf"(?:<|＜|&lt;)[ \t]*{TAG_NAME}[ \t]*(?:>|＞|&gt;)", re.IGNORECASE)
CLOSE = re.compile(rf"(?:<|＜|&lt;)[ \t]*[/\\][ \t]*{TAG_NAME}[ \t]*(?:>|＞|&gt;|$)", re.IGNORECASE)
# The beginning of a closing tag at the end of a response that reached its length: "</ans".
CUT_CLOSE = re.compile(
    r"(?:<|＜|&lt;)[ \t]*(?:[/\\][ \t]*(?:a(?:n(?:s(?:w(?:er?)?)?)?)?)?)?[ \t]*$", re.IGNORECASE
)
# What stands between tags that a text only speaks of: "between <answer> and </answer>".
PLACEHOLDER = re.compile(
    r"[\W_]*(?:and|to|or|up to|until|(?:the |my |your |a )?(?:final |short |correct "
    r")?answers?(?: here| goes here)?"
    r"|(?:the )?tags?|[\W_]*)[\W_]*",
    re.IGNORECASE,
)
# What follows such a tag: "the <answer> tag holds …". A colon makes it a statement after all.
MENTION = re.compile(
    r"[`'\")\]”’]*\s*(?:and|or|to|tags?|elements?|blocks?|sections?|markers?|delimiters?|fields?|pairs?|above|below"
    r"|is|was|are|were|holds?|contains?|means|shows|marks|denotes|tells|stands|states"
    r"|gives)\b(?![ \t]*[:=])",
    re.IGNORECASE,
)
END_OF_REASONING = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
# What opens or closes a group; an escaped brace, which the second alternative takes, does neither.
BRACES = re.compile(r"\\(?:boxed|fbox)[ \t]?\{|\\.|[{}]", re.DOTALL)
# The bounds keep the search linear in the text's length.
JSON_ANSWER = re.compile(
    r"(?:[\"']|[{,]\s{0,20})(?:final[_ ]?|correct[_ ]?)?answer(?:[\"']\s*:|:)\s*"
    r"(\"(?:[^\"\\\n]|\\.){0,2000}\"|'(?:[^'\\\n]|\\.){0,2000}'"
    r"|(?!null\b)[^\s\"'{\[\\][^\n{}\"]{0,200}?(?=\s{0,20}(?:,\s{0,20}[\"'\n}]|[}\n]|\Z)))",
    re.IGNORECASE,
)
# LaTeX commands whose first letters are an escape of JSON's: "\frac" in a JSON text is a form feed
# and "rac".
LOST = re.compile(r"[\a\b\f\t\r\v](?=[a-z]{2})|\n(?=(?:e|eq|u|abla|ot|otin|leq|geq|mid)\b)")
ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\t": "\\t",
    "\r": "\\r",
    "\v": "\\v",
    "\n": "\\n",
}
WRAPPED = re.compile(r"\\(?:text|textbf|mathbf|mathrm|textrm|bf)\s?\{([^{}]*)\}", re.DOTALL)
FENCED = re.compile(r"(```|~~~)[ \t]*[\w+-]*[ \t]*\n(.*?)\n?[ \t]*\1", re.DOTALL)
# What a form has in the answer's place: a reply that only repeats it gives no answer.
ELLIPSIS = re.compile(r"[.\u2026\s]+")


def extract_answer(text: object) -> str:
    """The final answer by the rule above, trimmed; "" when the text holds none. Never raises."""
    if text is None:
        given = ""
    else:
        given = str(text)
    read = this_turn(after_reasoning(INVISIBLE.sub("", given[-TAIL:])))
    tagged = in_tags(read)
    if tagged is not None:
        inner = unfenced(tagged)
        answer = unwrap(boxed(inner) or json_answer(inner) or labelled(inner) or inner)
    else:
        answer = unwrap(boxed(read) or json_answer(read) or labelled(read) or last_statement(read))
    if ELLIPSIS.fullmatch(answer):
        return ""
    return answer


def after_reasoning(text: str) -> str:
    """What follows the last ``</think>``, or the whole text when nothing does."""
    rest = END_OF_REASONING.split(text)[-1]
    if rest.strip():
        return rest
    return text


def in_tags(text: str) -> str | None:
    """The content of the last answer tag that is meant as one; "" when all are empty, None when
    there is none.
    """
    opened = list(OPEN.finditer(text))
    closed = [match.start() for match in CLOSE.finditer(text)]
    if not opened:
        # A response that was continued behind the opening tag has only the closing one.
        if closed:
            return last_statement(text[: closed[-1]]) or None
        return None
    end = len(text)
    is_closed = False
    only_mentioned: str | None = None
    # From the last tag back; ``end`` is where the tags behind the present one begin.
    for match in reversed(opened):
        while closed and closed[-1] >= match.end():
            end = closed.pop()
            is_closed = True
        content = text[match.end() : end].strip()
        if not is_closed:
            content = CUT_CLOSE.sub("", content).strip()
        if content and not is_mention(content, is_closed):
            return content
        if content and only_mentioned is None:
            only_mentioned = content
        end, is_closed = match.start(), False
    if only_mentioned is None:
        return ""
    return only_mentioned


def is_mention(content: str, is_closed: bool) -> bool:
    """Whether the text only speaks of the tags: "between <answer> and </answer>", "the <answer>
    tag".
    """
    if is_closed:
        return len(content) < 60 and PLACEHOLDER.fullmatch(content) is not None
    return MENTION.match(content) is not None


def boxed(text: str) -> str:
    r"""The content of the last balanced ``\boxed{…}`` that is not blank, else ""."""
    best = (0, 0)
    stack: list[int] = []
    for match in BRACES.finditer(text):
        token = match.group()
        if token == "}":
            start = 0
            if stack:
                start = stack.pop()
            content = text[start : match.start()]
            if start > best[0] and content and not content.isspace():
                best = (start, match.start())
        elif token.endswith("{") and len(token) != 2:  # "{" opens a group, "\{" is a printed brace
            start = 0  # a plain group holds no answer, but its braces must balance
            if token != "{":
                start = match.end()
            stack.append(start)
    return text[best[0] : best[1]].strip()


def json_answer(text: str) -> str:
    """The last value under "answer" of a JSON object in ``text``, else ""."""
    found = ""
    for match in JSON_ANSWER.finditer(text):
        found = match.group(1)
    if found.startswith("'"):
        return found[1:-1].replace("\\'", "'").strip()
    if not found.startswith('"'):
        return found
    try:
        return with_backslashes(str(json.loads(found))).strip()
    except ValueError:
        return found[1:-1].strip()


def with_backslashes(text: str) -> str:
    """``text`` with the backslashes of LaTeX commands that a JSON string took for escapes."""
    return LOST.sub(lambda match: ESCAPES[match[0]], text)


def unfenced(text: str) -> str:
    """What a code fence around the whole of ``text`` holds, else ``text``."""
    match = FENCED.fullmatch(text.strip())
    if match:
        return match.group(2).strip()
    return text


def unwrap(text: str) -> str:
    r"""Without emphasis marks and a ``\text{…}`` that hold the whole answer."""
    text = without_emphasis(text)
    match = WRAPPED.fullmatch(text)
    if match:
        return match.group(1).strip()
    return text
