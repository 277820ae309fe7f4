"""What the lines and sentences of a text state as its answer.

A line with a label ("Answer: 12", "The answer is 12.", "答案是 12") states what follows it, or the
next line; a sentence states what follows its last verb ("The GCD is 5.", "34 - 45 = -11"). Comments
behind an answer and talk about one ("The answer is correct.") are none. All expressions are linear
in the length of a line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

PHRASE = re.compile(
    r"^[\W_]{0,8}(?:(?:step )?\d{1,2}[.):]\s[\W_]{0,4})?"
    r"(?:(?:so|thus|hence|therefore|finally|here(?:'s| is))\b[, ]{0,2})?(?:(?:the|my|our)\s)?"
    r"(?:(?:final|correct|short|direct|concise)[\s_-]){0,2}(?:answers?|ans)(?:\s?\([^()]{1,40}\))?"
    r"(?:\s?[*_|]{0,3}\s?[:：=|]|\s[-–—]\s|\s(?:is|was|are|(?:would|should|must) be)\b\s?[:：]?)"
    r"(.*)$",
    re.IGNORECASE,
)
CHINESE_PHRASE = re.compile(
    r"^[\W_]{0,8}(?:所以|因此|故|综上所述|综上)?[，,]?\s?(?:最终|最后|正确|最終|最後)?的?"
    r"(?:答案|结果|結果|选项|選項)\s?(?:\*\*)?\s?(?:[是为為]\s?(?:\*\*)?\s?[:：]?|[】\]]\s?[:：]?|[:：=])\s?(.*)$"
)
# What is said about an answer in its place: "The answer is correct.", "结果是正确的".
ABOUT = re.compile(
    r"\W*(?:(?:(?:also|indeed|therefore|\w{2,20}ly) )?(?:correct|right|exact|accurate|valid"
    r"|verified|confirmed|consistent|supported|based|computed|calculated|obtained|derived|found"
    r"|given|stated|provided|shown)\b[^:]*|(?:如下|正确|来自|已).*)$",
    re.IGNORECASE,
)
AS_FOLLOWS = re.compile(
    r"^\W*(?:as follows|(?:given|shown|stated) below|如下)\s*[:：]?\s*", re.IGNORECASE
)
# A sentence that only adds to the one before it.
COMMENT = re.compile(
    r"\W*(?:it|he|she|this|that|these|we|i|they|because|since|note|explanation|hope)\b",
    re.IGNORECASE,
)
# … and one that puts another answer beside it, or takes it back: "It could also be 13."
HEDGE = re.compile(
    r"\b(?:or|also|either|could|might|may|maybe|perhaps|possibly|probably|alternatively|instead|another"
    r"|unsure|sure|guess|but|however|although|except|wrong|incorrect)\b",
    re.IGNORECASE,
)
CORRECTION = re.compile(
    r"(?:wait|no|actually|correction|sorry|rather)\b[^.]{0,30}?(?=\b(?:the|my)\b)", re.IGNORECASE
)
# A line that holds nothing: a fence, a rule, a delimiter of displayed mathematics.
FENCE_LINE = re.compile(r"\s*(?:(?:```|~~~)[\w+-]*|[-*_=]{3,}|\$\$|\\\[|\\\])\s*")
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
    r"|given that|due to|based on|according to)\b.*$",
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


# "x = 3 and x = 4", "x = 2, y = 3".
SEVERAL_EQUATIONS = re.compile(
    r"[A-Za-z]\w{0,20}\s*=[^=]*(?:,|;|\band\b|\bor\b)\s*[A-Za-z]\w{0,20}\s*=[^=]*$"
)
# "Option B is correct", "so B is the correct answer"; not "The answer is correct".
IS_CORRECT = re.compile(
    r"(?:(?:so|thus|hence|therefore),?\s+)?"
    r"((?!(?:the|this|that|it|they|both|my|our|his|her|their)\b).+?)\s+(?:is|are|was)\s+"
    r"(?:(?:correct|right)|the\s+(?:correct\s+|right\s+|final\s+)*(?:answer|option|choice))[.!]?$",
    re.IGNORECASE,
)
WRONG = re.compile(r"\b(?:wrong|incorrect|false|mistaken|suppose|supposing)\b", re.IGNORECASE)
JOINED = re.compile(r"\b(?:and|or|but)\b", re.IGNORECASE)
CONCLUDED = re.compile(
    r"\b(?:so|thus|hence|therefore)\b"
    r"|\b(?:the|our|my|their|its)\s+(?:final\s+)?(?:answer|result|total|sum|solution)\s*$",
    re.IGNORECASE,
)
MAX_SENTENCE = 600


def labelled(text: str) -> str:
    """What the last "Answer: …" or "The answer is …" line states, else ""; what is only said about
    an answer, where no such line states one.
    """
    following = about = ""
    for line in reversed(text.splitlines()):
        match = PHRASE.match(line) or CHINESE_PHRASE.match(line)
        if match:
            stated = without_emphasis(AS_FOLLOWS.sub("", match.group(1)).rstrip(" |"))
            stated = stated or without_emphasis(without_bullet(following.strip()))
            if ABOUT.match(stated):
                about = about or stated
            elif stated:
                return without_comment(stated)
        if line.strip() and not FENCE_LINE.fullmatch(line):
            following = line
    return about


def without_comment(stated: str) -> str:
    """The answer that a later sentence states in place of the first; the first alone, where the
    others only add to it.
    """
    first, *others = sentences = sentences_of(stated)
    for sentence in reversed(sentences):
        match = PHRASE.match(CORRECTION.sub("", sentence, count=1))
        if match and match.group(1).strip() and not ABOUT.match(match.group(1)):
            return without_emphasis(match.group(1))
    if others and all(map(only_adds, others)):
        return without_emphasis(first)
    return stated


def only_adds(sentence: str) -> bool:
    """Whether a sentence behind an answer leaves it as it is."""
    if PLEASANTRY.match(sentence):
        return True
    hedges = HEDGE.search(sentence) or NEGATION.search(sentence)
    return COMMENT.match(sentence) is not None and hedges is None


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
    for sentence in reversed(sentences_of(line)):
        if sentence.strip() and not PLEASANTRY.match(sentence):
            return sentence.strip()
    return line


def sentences_of(line: str) -> list[str]:
    """The sentences of a line, one or more; an abbreviation ends none."""
    sentences: list[str] = []
    for part in SENTENCE_END.split(line):
        if sentences and ABBREVIATION.search(sentences[-1]):
            sentences[-1] += f" {part}"
        else:
            sentences.append(part)
    return sentences


def stated_value(sentence: str) -> str:
    """The value that a sentence states: what follows its last "is" or "=", without a reason behind
    it; all equations, where it gives one name several values or several names one each.

    "" where the sentence states none, two ("a is 4 and b is 5"), or one as wrong, or opens with a
    verdict ("Yes, both are American").
    """
    if len(sentence) > MAX_SENTENCE or VERDICT.match(sentence):
        return ""
    first = VALUE_IS_NOUN.match(sentence) or IS_CORRECT.match(sentence)
    if first and not NEGATION.search(sentence):
        return without_emphasis(first.group(1))
    body = sentence
    reason = REASON.search(sentence)
    if reason and STATEMENT.search(f" {sentence[: reason.start()]} "):
        body = sentence[: reason.start()]
    spaced = f" {body}"  # a verb may stand first
    copulas = list(STATEMENT.finditer(spaced))
    value = ""
    if copulas and (SENTENCE_START.match(body) or body.rstrip()[-1:] in ".!"):
        value = spaced[copulas[-1].end() :]
        if states_two(spaced, copulas) or WRONG.search(spaced[: copulas[-1].start()]):
            return ""
    several = SEVERAL_EQUATIONS.search((value or body).rstrip(" ."))
    if several:
        return without_emphasis(several.group())
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


def states_two(body: str, copulas: Sequence[re.Match[str]]) -> bool:
    """Whether the last two of a sentence's verbs stand in clauses of the same rank."""
    if len(copulas) < 2:
        return False
    between = body[copulas[-2].end() : copulas[-1].start()]
    return JOINED.search(between) is not None and CONCLUDED.search(between) is None


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
