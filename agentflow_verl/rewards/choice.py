r"""Multiple choice: which option did the answer name, and is it the gold one?

The gold option is given as its text, its letter, or both ("B. text"). The answer may name it the
same three ways, wrapped in "option", "(…)", emphasis or LaTeX, or hold exactly one option's text
within a short sentence.

A letter that the answer states ("B because …", "the correct option is (B)") decides: options that
its reason mentions do not count, nor does what stands on the lines below it. What directly follows
the letter is its text, and another option's text there is a contradiction. What is denied ("not B",
"B is wrong", "unlike hydrogen", "it can't be helium") is not named, and whoever lists further
letters ("B as well as C", "helium (C)", "B or none") names no option.

Blind spots: options whose text is itself a letter of another option are read as text first; without
options only letters and equal texts match.
"""

from __future__ import annotations

import re
from typing import Any

from agentflow_verl.core.errors import ConfigError
from agentflow_verl.rewards.option_texts import (
    comparable_text,
    comparable_words,
    options_with_text,
    options_with_words,
    options_within,
    places_of,
    plain_text,
)
from agentflow_verl.rewards.options import LABEL, options_as_shown, read_options, read_order
from agentflow_verl.rewards.score import GroundTruth, Score, gold_answers, right, wrong

MAX_CHARS = 2_000

# The whole answer is a letter: "B", "(b)", "Option B.", "**Answer: B**".
ALONE = re.compile(
    r"[\W_]*(?:(?:option|choice|answer|letter)\b[\s:]*(?:is\s+)?)?[\W_]*([A-Za-z])[\W_]*",
    re.IGNORECASE,
)
# What may stand before the letter and says nothing else: "So I think the best answer is". Repeated,
# since these openings follow each other in any order.
LEAD = re.compile(
    r"[\W_]*(?:(?:so|thus|hence|therefore|finally|overall|well|(?:most )?likely|probably|clearly"
    r"|definitely|certainly|obviously|surely|only|select|choose|pick|go with"
    r"|in (?:conclusion|summary|short))\b[\s,:]*"
    r"|(?:based on|according to|from|given|among)\s+(?:the|this|these|that|all)\b"
    r"[^,.;:()\n]{0,60},\s*"
    r"|(?:ans|correct|right)\b\.?\s*[:=]\s*|(?:the\s+)?ans\b\.?\s*(?:is\b)?\s*"
    r"|(?:i(?:'m| am| would| will|'d|'ll)?\s+(?:think|believe|guess|say|choose|pick|select|go "
    r"with|going with|conclude"
    r"|sure|confident|answer)\b(?:\s+(?:that|for))?\s*[:,]?\s*)"
    r"|(?:it|this|that)(?:\s+(?:is|must be|should be|has to be|would be)|'s)\s+(?:most "
    r"likely\s+|probably\s+|clearly\s+)?"
    r"|(?:the|my|our)?\s*(?:(?:single|one|only|most|best|correct|right|final|likely|appropriate|accurate)\s+)*"
    r"(?:answer|option|choice|letter)(?:\s+(?:choice|option|letter))?\s*(?:(?:is|would be"
    r"|must be|should be)\b)?[\s:=–—-]*"
    r"(?:(?:most likely|probably|clearly|therefore|thus|option|choice|letter)\s+)*)*[\W_]*",
    re.IGNORECASE,
)
BRACKETED_LETTER = re.compile(r"[(\[]\s?([A-Za-z])\s?[)\]]")
LETTER = re.compile(r"([A-Za-z])(?![A-Za-z0-9'’])")
# A letter is a statement only before a sign or a word that cannot belong to an option's text.
# A hyphen needs a blank behind it: "A-level" does not name A.
AFTER_LETTER = re.compile(
    r"[ \t]*\n|\s*(?:$|[.):\],;/|=]|[-–—](?=\s)|\(|(?:because|since|as|due|though|although|while"
    r"|whereas|for|given|not|unlike|and|or|but|rather|instead|only|is|was|would|explanation|\+|&)(?![a-z]))",
    re.IGNORECASE,
)
# "A" and "I" open English sentences; alone they are no statement.
ARTICLE_OR_PRONOUN = frozenset("AaIi")
# What makes even these two a statement: "A because …", "A is the correct …".
STATED_BEHIND = re.compile(r"\s+(?:because|since|[-–—(]|is (?:the )?(?:correct|right|answer|best))")
# Where the reason for a letter begins; "as" only before a clause: "as well" adds further letters.
REASON = re.compile(
    r"\b(?:because|since|due to|for the reason|given that|so that|whereas|while|unlike"
    r"|although|though|even though"
    r"|rather than|instead of|as opposed to|in contrast|compared (?:to|with)|but not|and not"
    r"|not|isn't|aren't|neither"
    r"|nor|never|excluding|except|which|whose|as (?!well)(?=\w+ (?:is|are|was|has|have|can"
    r"|does|will|would)\b))\b",
    re.IGNORECASE,
)
# Over ``comparable_words``, where "isn't" is "isn t". A bare "not" denies what comes behind it.
DENIED = re.compile(
    r"(?:is|was|are|can be|could be|would be|should be|has to be|must be|seems|looks|appears) "
    r"(?:(?:clearly|probably|definitely|therefore|most|very|highly|also) )?"
    r"(?:wrong|incorrect|false|never|unlikely|impossible|ruled out|excluded|eliminated|rejected"
    r"|out\b|not (?:correct|right|true|possible|likely|valid|the|it|an?)\b|not$)"
    r"|(?:isn|wasn|doesn|won|wouldn|can|couldn) t\b|cannot\b|fails\b"
    r"|(?:does|will|would|could|did) not\b"
    r"|(?:wrong|incorrect|false|ruled out|excluded|eliminated)$"
)
REFUSED_BEFORE = re.compile(
    r"\b(?:not|no|never|neither|nor|\w*n t|excluding|excludes?|rejects?|rejecting|eliminates?"
    r"|eliminating|rul\w+ out|other than|without|except|all but|anything but|wrong|incorrect|false"
    r"|least likely|unlikely)(?: (?:answer|option|choice|is|the|an?|for|be))*$"
)
NEGATION = re.compile(
    r"\b(?:not|never|neither|nor|isn't|aren't|wasn't|cannot|can't|rule out|exclude|except"
    r"|without)\b",
    re.IGNORECASE,
)
FURTHER = re.compile(
    r"(?:[(\[]|\b(?:and|or|also|possibly|perhaps|maybe|then|both|so is|as well as|along with"
    r"|together with|plus|versus|vs|alternatively|(?:could|may|might|can) (?:also )?be)\b[.,]?\s"
    r"|[,;/&+]\s?)\s*\(?([A-Z])(?![A-Za-z0-9'’])"
)
# Behind a full stop a capital alone is a letter; "A gas …" is a sentence.
FURTHER_ALONE = re.compile(r"[.):\]|?]\s*\(?([A-Z])\s*(?=$|[.,;:)\]|?])")
ALSO = re.compile(
    r"(?:^|[.,;:(\n]|\b(?:but|and|although|though|while|option))\s?\(?([A-HJ-Z])\)?\s"
    r"(?:(?:is|works|fits|could be|may be|might be|can be)\s)?(?:also|equally|too|as well)\b"
)
LETTERS_DENIED = re.compile(
    r"\b(?:[A-Z](?:\s?[,&/]\s?|\s(?:and|or)\s)){0,8}[A-Z]\s+(?:is|are|was|were)"
    r"(?:n't|\s+(?:not|wrong|incorrect|false|ruled out|excluded|eliminated|impossible|unlikely))\b"
    r"|\b(?:rul(?:es|ing) out|excludes|excluding|eliminates|eliminating)\s"
    r"(?:[A-Z](?:\s?[,&/]\s?|\s(?:and|or)\s)){0,8}[A-Z]\b"
)
# A letter that a sentence with an option's text names, too: "helium (C)", "helium or C".
LETTER_IN_SENTENCE = re.compile(
    r"[(\[]\s?(?:option\s+|choice\s+|answer\s+)?([A-Z])\s?[)\]]"
    r"|\b(?:option|choice|answer|letter)\s+\(?([A-Z])\b"
    r"|(?:\b(?:or|and)\s|[,;/&+]\s?)([A-Z])\s*(?:$|[.,;:)])"
)
# "16 or 17" is not the option 16.
NUMBER_BEHIND = re.compile(r"(?:or|and|to) -?[.\d]")
NUMBER_BEFORE = re.compile(r"\d (?:or|and|to)$")
# What stands between a letter and its text; a minus sign belongs to a number.
LABEL_SIGNS = re.compile(r"^(?:[\s.):\]*_–—(,;]|-(?![.\d]))+")
LINE_END = re.compile(r"[.):\]]?[ \t]*\n")
OR = re.compile(r"\W*or\b", re.IGNORECASE)
# "B iron", without a sign between: read only where B's text may follow.
LETTER_BESIDE_TEXT = re.compile(r"([A-Z])\s+(\S.*)", re.DOTALL)
# "iron, or maybe not" names iron and takes it back.
UNDECIDED = re.compile(r"\b(?:or|maybe|perhaps) not\b", re.IGNORECASE)
CONCLUDED = re.compile(r"[,;.]\s+(?:so|therefore|thus|hence|consequently)\b,?\s+", re.IGNORECASE)
LEADING_REASON = re.compile(
    r"^[\W_]*(?:because|since|as|given that|although|though|while)\b[^,;]*[,;]\s*", re.IGNORECASE
)
# A hyphen ends a segment only between blanks; within a word it is part of the text.
SEGMENT_END = re.compile(r"[,;:.!?()\[\]–—]|\s-\s")


def score_choice(answer: str, ground_truth: GroundTruth, **extra: Any) -> Score:
    """1 when ``answer`` names the gold option. ``extra["options"]``: a list (with "A. " or
    without), a dict, or records with a label and a text; ``extra["shown"]``: the order in which the
    model saw them (shuffle.py), their own where it is missing.

    Raises:
        ConfigError: no gold answer, or one that is no option, or an order of other options.
    """
    options = read_options(extra.get("options"))
    gold = read_gold(ground_truth, options)
    source = read_order(extra.get("shown"), options)
    if not answer.strip():
        return wrong("empty answer")
    if len(answer) > MAX_CHARS:
        return wrong(f"longer than {MAX_CHARS} characters")
    shown = {}
    for letter, text in options_as_shown(options, source).items():
        shown[letter] = plain_text(text)
    named, why = named_option(answer, shown, gold)
    if named is None:
        return wrong(why)
    named = source.get(named, named)
    if named in gold:
        return right(why)
    return wrong(f"names {named}, not {' or '.join(sorted(gold))[:40]}")


def read_gold(ground_truth: GroundTruth, options: dict[str, str]) -> set[str]:
    """The gold letters, or the comparable gold texts where there are no options."""
    found = set()
    for gold in gold_answers(ground_truth):
        letter, label = gold.strip().strip("().:").upper(), LABEL.fullmatch(gold)
        if not options:
            found.add(letter if len(letter) == 1 else comparable_text(plain_text(gold)))
            if label:
                found.add(label.group(1).upper())
                found.add(comparable_text(plain_text(label.group(2))))
            continue
        same = options_with_text(options, gold)
        if not same and label:
            same = options_with_text(options, label.group(2))
        if not same:
            if letter in options:
                same = [letter]
            else:
                same = options_with_words(options, gold)
        if len(same) == 1:
            found.add(same[0])
        elif label and label.group(1).upper() in same:
            # Several options have this text: the label tells which of them is meant.
            found.add(label.group(1).upper())
        else:
            raise ConfigError(
                f"gold answer {gold[:60]!r} is none, or more than one, of the options"
                f" {list(options)}"
            )
    return found


def named_option(answer: str, options: dict[str, str], gold: set[str]) -> tuple[str | None, str]:
    """The letter that ``answer`` names (its text where there are no options), or None, and why."""
    text = plain_text(answer)
    if not options:
        return named_without_options(text, gold)
    # Texts before letters, as an option's text may itself be a letter.
    same = options_with_text(options, text)
    if len(same) == 1:
        return same[0], "names the option's text"
    alone = ALONE.fullmatch(text)
    if alone:
        letter = alone.group(1).upper()
        if letter in options:
            return letter, "names the letter"
        return None, f"there is no option {letter}"
    text = conclusion(text)
    beside = LETTER_BESIDE_TEXT.match(text)
    if beside and beside.group(1) in options and options_with_words(options, beside.group(2)):
        return check_label(beside.group(1), beside.group(2), options)
    stated = stated_letter(text)
    if stated and stated[0] in options:
        return check_label(*stated, options)
    same = options_with_words(options, text)
    if len(same) == 1:
        return same[0], "names the option's words"
    return option_in_sentence(text, options)


def conclusion(text: str) -> str:
    """``text`` without a reason before the answer: "Because hydrogen burns, B", "not A, so B"."""
    concluded = CONCLUDED.search(text)
    if concluded:
        return text[concluded.end() :]
    return LEADING_REASON.sub("", text, count=1)


def named_without_options(text: str, gold: set[str]) -> tuple[str | None, str]:
    if comparable_text(text) in gold:
        return comparable_text(text), "equals the gold text"
    alone = ALONE.fullmatch(text)
    if alone:
        return alone.group(1).upper(), "names the letter"
    stated = stated_letter(text)
    if stated is None or denied(stated[1]) or OR.match(stated[1]):
        return None, "names no option"
    if further_letters(stated[1], stated[0], {}):
        return None, "names more than one option"
    return stated[0], "names the letter"


def stated_letter(text: str) -> tuple[str, str] | None:
    """The letter that opens ``text``, perhaps after "the correct answer is", and what follows
    it.
    """
    lead = LEAD.match(text)
    start = 0
    if lead:
        start = lead.end()
    bracket_start = start
    if start and text[start - 1 : start] in ("(", "["):
        bracket_start = start - 1
    bracketed = BRACKETED_LETTER.match(text, bracket_start)
    if bracketed:
        return bracketed.group(1).upper(), text[bracketed.end() :]
    match = LETTER.match(text, start)
    if not match or not AFTER_LETTER.match(text, match.end()):
        return None
    letter, rest = match.group(1), text[match.end() :]
    led = bool(text[:start].strip(" \t\n*_-"))
    if not led and is_word(letter, rest):
        return None
    return letter.upper(), rest


def is_word(letter: str, rest: str) -> bool:
    """Whether a single letter that opens a sentence is a word of it: "A perfect answer", "I was",
    "x is 3".
    """
    sign = rest[:1]
    if letter in ARTICLE_OR_PRONOUN and sign not in (".", ")", ":", "]", ",", ";", "", "\n"):
        if not STATED_BEHIND.match(rest):
            return True
    return letter.islower() and sign not in (".", ")", ":", "]")


def check_label(letter: str, rest: str, options: dict[str, str]) -> tuple[str | None, str]:
    """A letter followed by text: the text must not be another option's, nor name further
    letters. On a line below the letter it is a reason, unless it is an option's whole text or one
    more letter.
    """
    content = LABEL_SIGNS.sub("", rest, count=1)
    whole = options_with_text(options, content) or options_with_words(options, content)
    if whole:
        if letter in whole:
            return letter, "names the letter and its text"
        return None, f"the letter {letter} and the text disagree"
    if denied(rest):
        return None, f"denies {letter}"
    if OR.match(rest) and options_within(rest, options) != [letter]:
        return None, "decides for no option"
    if further_letters(rest, letter, options) & set(options):
        return None, "names more than one option"
    if LINE_END.match(rest):
        return letter, "names the letter"
    if names_other_text(without_reason(content), letter, options):
        return None, f"the letter {letter} and the text disagree"
    return letter, "names the letter"


def denied(rest: str) -> bool:
    """Whether what follows a letter or an option's text takes it back."""
    return DENIED.match(comparable_words(rest)) is not None


def without_reason(rest: str) -> str:
    """What follows a letter up to the reason for it."""
    if re.match(r"\W*as\b(?! well)", rest, re.IGNORECASE):
        return ""
    return REASON.split(rest, maxsplit=1)[0]


def further_letters(rest: str, letter: str, options: dict[str, str]) -> set[str]:
    """Letters beside ``letter`` that what follows it lists: "A or B", "(A), (C)", "C is also
    right", or a line "C. lithium".
    """
    found = set(ALSO.findall(rest))
    for line in rest.splitlines()[1:]:
        alone, label = ALONE.fullmatch(line), LABEL.fullmatch(line)
        if alone:
            found.add(alone.group(1).upper())
        elif label and label.group(1).upper() in options_with_text(options, label.group(2)):
            found.add(label.group(1).upper())
    if not LINE_END.match(rest):
        statement = without_reason(LETTERS_DENIED.sub(" ", rest))
        found.update(FURTHER.findall(statement), FURTHER_ALONE.findall(statement))
    return found - {letter}


def names_other_text(statement: str, letter: str, options: dict[str, str]) -> bool:
    """Whether what stands directly behind a letter is the text of another option and not its
    own.
    """
    held = options_within(statement, options)
    if not held or letter in held:
        return False
    first = SEGMENT_END.split(statement.strip(), maxsplit=1)[0]
    near = options_within(first, options)
    if not near:
        return False
    # With up to two more words it is that text ("the zinc atom"); a longer phrase only mentions it.
    words_held = len(comparable_words(options[near[0]]).split())
    return len(comparable_words(first).split()) <= words_held + 2


def option_in_sentence(text: str, options: dict[str, str]) -> tuple[str | None, str]:
    """The one option whose text a sentence holds outside of its reason and of what it denies."""
    if UNDECIDED.search(text):
        return None, "decides for no option"
    statement = REASON.split(text, maxsplit=1)[0]
    held = options_within(statement, options)
    if not held and statement != text and not NEGATION.search(text):
        held = options_within(text, options)
    if len(held) == 1:
        return option_unless_denied(held[0], text, options)
    if held:
        return None, "names more than one option"
    return None, "names no option"


def option_unless_denied(letter: str, text: str, options: dict[str, str]) -> tuple[str | None, str]:
    """``letter``, whose option ``text`` holds, unless that is denied or another letter is named."""
    words, sought = comparable_words(text).split(), comparable_words(options[letter]).split()
    for place in places_of(sought, words):
        before = " ".join(words[max(0, place - 6) : place])
        behind = " ".join(words[place + len(sought) :])
        if REFUSED_BEFORE.search(before) or DENIED.match(behind):
            return None, f"denies {letter}"
        if sought[-1][-1:].isdigit() and (
            NUMBER_BEHIND.match(behind) or NUMBER_BEFORE.search(before)
        ):
            return None, "names more than one number"
    beside: set[str] = set()
    for found in LETTER_IN_SENTENCE.findall(LETTERS_DENIED.sub(" ", text)):
        beside.update(found)
    if beside & set(options) - {letter}:
        return None, "names more than one option"
    return letter, "holds one option's text"
