r"""The final answer in a generator's text: one rule, for training and for evaluation.

The rule, first match wins:

1. the last ``<answer>…</answer>`` (any letter case, blanks inside the tags; a last tag left open or
   cut runs to the end; empty pairs and tags that the text only mentions are passed over);
2. the last balanced ``\boxed{…}``, the innermost when they nest;
3. the last ``"answer": …`` of a JSON object;
4. the last line that says "Answer: …" or "The answer is …" (the next line when the phrase ends its
   own line), in English or Chinese;
5. what the last sentence states ("The GCD is 5.", "34 - 45 = -11", "They have a GCD of 5"), or that
   sentence.

What a tag holds is read once more by 2 to 4, so ``<answer>The answer is \boxed{7}.</answer>`` gives
7. Reasoning up to the last ``</think>`` is left out when text follows it. Invisible characters,
fences, emphasis marks and a ``\text{…}`` around the whole answer are dropped; dots alone are no
answer. Only the last ``TAIL`` characters are read. The work is linear in their number.
"""

from __future__ import annotations

import json
import re

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
    r"[\"'](?:final[_ ]?|correct[_ ]?)?answer[\"']\s*:\s*"
    r"(\"(?:[^\"\\\n]|\\.){0,2000}\"|'(?:[^'\\\n]|\\.){0,2000}'|-?[0-9][0-9.eE+-]{0,60}|true|false)",
    re.IGNORECASE,
)
PHRASE = re.compile(
    r"^[\W_]{0,8}(?:(?:so|thus|hence|therefore|finally)\b[,"
    r" ]{0,2})?(?:(?:the|my|our)\s)?(?:final\s|correct\s)?"
    r"answer(?:\s?(?:\*\*|__)?\s?[:：=]|\s(?:is|was)\b\s?[:：]?)(.*)$",
    re.IGNORECASE,
)
CHINESE_PHRASE = re.compile(
    r"^[\W_]{0,8}(?:所以|因此|故|综上)?[，,]?\s?(?:最终|最后|正确|最終|最後)?的?(?:答案|结果|結果)"
    r"\s?(?:\*\*)?\s?(?:是|为|為)?\s?(?:\*\*)?\s?[:：=]?\s?(.*)$"
)
WRAPPED = re.compile(r"\\(?:text|textbf|mathbf|mathrm|textrm|bf)\s?\{([^{}]*)\}", re.DOTALL)
FENCED = re.compile(r"(```|~~~)[ \t]*[\w+-]*[ \t]*\n(.*?)\n?[ \t]*\1", re.DOTALL)
FENCE_LINE = re.compile(r"\s*(?:```|~~~)[\w+-]*\s*|\s*[-*_=]{3,}\s*")
EMPHASIS = ("```", "**", "__", "*", "_", "`", "~~")
PLEASANTRY = re.compile(
    r"[\W_]*(?:i hope|hope this|let me know|please (?:let|note)|feel free|thank you|thanks|if "
    r"you (?:have|need|want)"
    r"|is there anything|good luck|q\.?e\.?d\.?[\W_]*$)",
    re.IGNORECASE,
)
# A full stop ends a sentence only before a capital, a quotation or a formula; a Chinese one always.
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"“(\[$\\*])|(?<=[。！？])\s*(?=\S)")
# Full stops behind which a sentence goes on, initials included.
ABBREVIATION = re.compile(r"(?:\b[A-Z]|\b(?:Mr|Mrs|Ms|Dr|St|Jr|Sr|vs|No|Prof|etc|e\.g|i\.e))\.$")
REASON = re.compile(
    r"[\s,;(–—-]+(?:because|since|as (?:it|the|they|he|she|this|we|shown|stated|given)|which"
    r"|who|where|so that"
    r"|given that|due to|based on|according to|due to)\b.*$",
    re.IGNORECASE | re.DOTALL,
)
# The verb between subject and value; not in a relative clause ("which is") nor after "there".
STATEMENT = re.compile(
    r"(?<!\bwho)(?<!\bwhich)(?<!\bthat)(?<!\bwhat)(?<!\bthere)\s(?:is|are|was|were|equals?|is "
    r"equal to|equal to"
    r"|comes? to|amounts? to|totals|gives|becomes)(?=[\s:])\s*:?\s*(?:(?:therefore|thus|hence"
    r"|then|equal to|exactly|simply|now"
    r"|indeed)\s)?(?::\s?)?"
)
# A lone equals sign, not part of ≤, ≥, ≠, := or ==.
EQUATION = re.compile(r"(?<![<>!:=\\])=(?!=)")
RESULT = re.compile(
    r"[\W_]{0,8}(?:the\s+)?(?:final\s+)?(?:result|solution|output|value|total|sum)\s*[:：]\s*(.+)$",
    re.IGNORECASE,
)
# A value that its noun goes before or follows: "276 and 98 have a GCD of 2", "2 is their GCD".
_NOUN = (
    r"(?:(?:greatest |highest |least |lowest |smallest |largest |total |final |exact )*"
    r"(?:common (?:divisor|factor|multiple|denominator)|gcd|gcf|hcf|lcm|sum|difference|product"
    r"|quotient|remainder|total|value|result|answer|solution|average|mean|median|area|volume"
    r"|perimeter|probability))"
)
_NUMBER = r"[$]?-?[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?(?:/[0-9]+)?%?[$]?"
NOUN_OF_VALUE = re.compile(
    r"^[^,;:]*(?<!\bwhich)(?<!\bthat)(?<!\bwho)\s(?:ha(?:s|ve)|gives?|yields?)\s+(?:us\s+)?"
    rf"(?:an?|the)\s+{_NOUN}\s+of\s+({_NUMBER})[.!]?\s*$",
    re.IGNORECASE,
)
VALUE_IS_NOUN = re.compile(
    rf"(?:so|thus|hence|therefore)?,?\s*({_NUMBER})\s+is\s+(?:the|their|its|our)\s+{_NOUN}\b"
    r"(?:(?!\b(?:is|are|or)\b)[^,;=])*$",
    re.IGNORECASE,
)
NEGATION = re.compile(
    r"(?:\b(?:not|no|never|neither|cannot|without|if|unless)\b|n['’]t\b)", re.IGNORECASE
)
# A value does not begin so: "was founded in 1901" states the whole sentence, not "founded in 1901".
AGENT = re.compile(
    r"^(?:\w+(?:ed|en)\s+by|made by|built by|(?:born|located|situated|founded|released|held"
    r"|published|found)"
    r"\s+(?:in|on|at))\s+"
)
VERDICT = re.compile(r"\W*(?:yes|no|true|false)\b", re.IGNORECASE)
SENTENCE_START = re.compile(
    r"\W*(?:so|thus|hence|therefore|then|finally|in conclusion|this|that|the|these|those|it|he"
    r"|she|they|we|its|their"
    r"|his|her|our|my|after|from|using|by|since|because|according|based|as|for|in|on|there|overall)\b",
    re.IGNORECASE,
)
# What a form has in the answer's place: a reply that only repeats it gives no answer.
ELLIPSIS = re.compile(r"[.\u2026\s]+")
MAX_SENTENCE = 600


def extract_answer(text: object) -> str:
    """The final answer by the rule above, trimmed; "" when the text holds none. Never raises."""
    if text is None:
        given = ""
    else:
        given = str(text)
    read = after_reasoning(INVISIBLE.sub("", given[-TAIL:]))
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
        return str(json.loads(found)).strip()
    except ValueError:
        return found[1:-1].strip()


def labelled(text: str) -> str:
    """What the last "Answer: …" or "The answer is …" line states, else ""."""
    following = ""
    for line in reversed(text.splitlines()):
        match = PHRASE.match(line) or CHINESE_PHRASE.match(line)
        if match:
            stated = without_emphasis(match.group(1)) or without_emphasis(following)
            if stated:
                return stated
        if line.strip() and not FENCE_LINE.fullmatch(line):
            following = line
    return ""


def last_statement(text: str) -> str:
    """What the last sentence states, or that sentence where it states no value."""
    for line in reversed(text.splitlines()):
        if not line.strip() or FENCE_LINE.fullmatch(line) or PLEASANTRY.match(line):
            continue
        if len(line) > MAX_SENTENCE:
            return line.strip()
        sentence = last_sentence(line.strip())
        return stated_value(sentence) or without_bullet(line.strip())
    return ""


def without_bullet(line: str) -> str:
    return re.sub(r"^(?:[-*•]\s+(?![\d.])|#{1,6}\s+)", "", line)


def last_sentence(line: str) -> str:
    """The last sentence of a line that is no pleasantry."""
    sentences: list[str] = []
    for part in SENTENCE_END.split(line):
        if sentences and ABBREVIATION.search(sentences[-1]):
            sentences[-1] += f" {part}"
        else:
            sentences.append(part)
    for sentence in reversed(sentences):
        if sentence.strip() and not PLEASANTRY.match(sentence):
            return sentence.strip()
    return line


def stated_value(sentence: str) -> str:
    """The value that a sentence states: what follows its last "is" or "=", without a reason behind
    it.

    "" where the sentence states none, or opens with a verdict ("Yes, both are American").
    """
    if len(sentence) > MAX_SENTENCE or VERDICT.match(sentence):
        return ""
    first = VALUE_IS_NOUN.match(sentence)
    if first and not NEGATION.search(sentence):
        return first.group(1)
    body = sentence
    reason = REASON.search(sentence)
    if reason and STATEMENT.search(f" {sentence[: reason.start()]} "):
        body = sentence[: reason.start()]
    copulas = list(STATEMENT.finditer(f" {body}"))
    value = ""
    if copulas and (SENTENCE_START.match(body) or body.rstrip()[-1:] in ".!"):
        value = f" {body}"[copulas[-1].end() :]
    equations = list(EQUATION.finditer(value or body))
    if equations and (value or SENTENCE_START.match(body) or body.rstrip().endswith(".")):
        value = (value or body)[equations[-1].end() :]
    named = None
    if not value:
        named = RESULT.match(body)
    if not value and not named and not NEGATION.search(sentence):
        named = NOUN_OF_VALUE.match(sentence)
    if named:
        value = named.group(1)
    else:
        value = AGENT.sub("", value.strip())
    return without_emphasis(value.strip().rstrip(".!。"))


def unfenced(text: str) -> str:
    """What a code fence around the whole of ``text`` holds, else ``text``."""
    match = FENCED.fullmatch(text.strip())
    if match:
        return match.group(2).strip()
    return text


def without_emphasis(text: str) -> str:
    """Without surrounding blanks and paired or dangling emphasis marks."""
    text = text.strip()
    for mark in EMPHASIS:
        if text.endswith((mark + ".", mark + "。")):
            text = text[:-1]
        paired = text.startswith(mark) and text.endswith(mark) and len(text) > 2 * len(mark)
        if paired and mark not in text[len(mark) : -len(mark)]:
            text = text[len(mark) : -len(mark)].strip()
        elif mark in ("**", "`") and (text.startswith(mark) or text.endswith(mark)):
            text = text.removeprefix(mark).removesuffix(mark).strip()
    return text


def unwrap(text: str) -> str:
    r"""Without emphasis marks and a ``\text{…}`` that hold the whole answer."""
    text = without_emphasis(text)
    match = WRAPPED.fullmatch(text)
    if match:
        return match.group(1).strip()
    return text
