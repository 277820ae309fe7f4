"""A verdict: STOP or CONTINUE.

    verdict    = what the last "Conclusion" label (``labels``; also "Final conclusion", "Verdict",
                 "Decision", "Recommendation", and inside a line) states
               | the "conclusion" of a JSON object, or its "stop" or "stop_signal", true or false
               | a last line that is "stop_signal: true" or "false"
               | a last sentence that is the word in capitals: "STOP.", "Therefore, STOP.", "The
                 agent should STOP."
    statement  = the word in capitals, or first in its line, or what an agent "should", "can" or
                 "must" do, in a clause that neither denies nor conditions it. Around STOP only
                 words that affirm may stand there, up to where a reason or a new clause begins

"STOP is not justified yet" and "do not stop" deny; "STOP if the answer follows, otherwise CONTINUE"
(the prompt's own words), "STOP?" and "STOP or CONTINUE" condition; "search once more, then STOP"
puts it off and "STOP (not yet)" takes it back. Where both words are stated, or none, there is no
verdict: the agent goes on and ``parsed`` is False.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from agentflow_verl.flow.parse.clean import TAIL, levelled, without_reasoning
from agentflow_verl.flow.parse.labels import LabelGrammar, Labelled
from agentflow_verl.flow.parse.objects import objects_in
from agentflow_verl.trajectories.records import Verdict

# The field of the reference code's verifier, as a line: marks and a list's number around it, no
# other word or sign.
_SIGNAL = re.compile(
    r"[\s*_`\"'\-]{0,8}(?:\d{1,2}[.)]\s)?[\s*_`\"']{0,8}stop[_ -]?signal[\s*_`\"']{0,6}[:=]"
    r"[\s*_`\"'\[(]{0,6}(true|false|yes|no)[\s*_`\"'.,\])]{0,8}",
    re.IGNORECASE,
)
_WORD_LAST = re.compile(
    r"[' \t.!()\-:]*(?i:(?:so|thus|hence|therefore|finally)\b[, ]{0,2})?"
    r"(?i:(?:we|i|you|it|the agent) (?:should|must|can|will) (?:now )?)?"
    r"(?:STOP|CONTINUE)[' \t.!()\-:]*"
)
MAX_STATEMENT = 1000  # characters that are read of a conclusion

_GRAMMAR = LabelGrammar(
    {
        "conclusion": (
            r"(?:(?:the|my|our|final|overall)[ _]){0,2}"
            r"(?:conclusion|verdict|decision|judge?ment|recommendation|\u7ed3\u8bba|\u7d50\u8ad6)"
            r"(?:[ \t]is(?=[ \t]*:))?"
        ),
        "analysis": r"(?:(?:the|my|our|brief)[ _]){0,2}analysis",
    }
)
_SPOKEN = re.compile(
    r"\b(?:(?:conclusion|verdict|decision)[ \t]+is(?:[ \t]+to)?"
    r"|(?:i|we)[ \t]+conclude(?:[ \t]+that)?)"
    r"[ \t:]+(?=[\W_]{0,4}(?:stop|continue)\b)",
    re.IGNORECASE,
)
_ANALYSIS = re.compile(r"^[\W\d]*analysis\W*[:\n][\s*_`]*", re.IGNORECASE)
_MARKS = str.maketrans(dict.fromkeys('*_`"<>[]{}#|', " "))

_MENTION = re.compile(r"(?<![\w-])(stop|continue)(?![\w-])", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")
_CLAUSE_END = re.compile(  # kept by split: "then" puts off what follows
    r"([,:()]|\s-+\s|\b(?:so|therefore|thus|hence|then|because|since|and|but|while|although)\b)",
    re.IGNORECASE,
)
_CONDITION = re.compile(
    r"\b(?:if|unless|when(?:ever)?|once|until|whether|otherwise|or|either|else|provided|assuming"
    r"|as soon as|as long as|in case|would|could|might|maybe|perhaps|possibly)\b|/|\?",
    re.IGNORECASE,
)
_CONDITION_FIRST = re.compile(
    r"^\W*(?:but |and |only |except |even )?(?:if|unless|when|once|until|provided|assuming"
    r"|as soon as|as long as|in case|otherwise|else|or|suppose|were|had)\b",
    re.IGNORECASE,
)
_OTHERWISE = re.compile(r"\b(?:otherwise|or|else)\b|/|\?", re.IGNORECASE)
_LATER = re.compile(r"^\W*(?:only\s+)?(?:after|before|later)\b", re.IGNORECASE)
_DENIED_BEFORE = re.compile(
    r"(?:\b(?:not|never|cannot|no|without|nor|neither|premature|unable|refuse|wrong|incorrect"
    r"|instead of|rather than|too (?:early|soon)|against)|n't|n\u2019t)\b",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
    r"(?:\b(?:not|never|cannot|premature|unjustified|unwarranted|wrong|incorrect|inappropriate"
    r"|impossible|too (?:early|soon)|yet|no)|n't|n\u2019t)\b",
    re.IGNORECASE,
)
_PURPOSE = re.compile(r"\W*(?:in order )?to\W*", re.IGNORECASE)  # "To STOP, the agent needs …"
_UNTIL = re.compile(r"\W*until\b", re.IGNORECASE)
_TAKEN_BACK = re.compile(
    r"\W*(?:not (?:yet|now)\b|no\W*$|false\W*$|only (?:after|when|once|if)\b"
    r"|(?:which|this|that|it) would be\b)",
    re.IGNORECASE,
)
_NO_FIRST = re.compile(
    r"^\W*(?:no|not)\b(?! (?:errors?|issues?|problems?|more|further|missing))[\w ]{0,12}\W*$",
    re.IGNORECASE,
)
_AFFIRMING = (
    r"we|i|it|is|are|the|a|an|my|our|agent|can|should|must|may|will|shall|now|here|safe(?:ly)?|time|to"
    r"|choose|chosen|select|recommend|say|conclude|verdict|decision|conclusion|final(?:ly)?|best"
    r"|yes|ok(?:ay)?|justified|right|correct|appropriate|warranted|reasonable|fine|enough|have|has"
    r"|all|everything|known|found|complete|sufficient|ready|let|us|please|searching|this|process"
    r"|answer|clear(?:ly)?|therefore|word|option|action|next|step|would say|that"
)
_ONLY_AFFIRMING = re.compile(rf"[\W_]*(?:(?:{_AFFIRMING})\b[\W_]*){{0,12}}$", re.IGNORECASE)
_THEN_A_REASON = re.compile(
    rf"[\W_]*(?:(?:{_AFFIRMING})\b[\W_]*){{0,6}}"
    r"(?:$|(?:as|given|due|for|with|thanks|we|it|nothing|no more|the answer|all|everything)\b)",
    re.IGNORECASE,
)
_DIRECTIVE = re.compile(
    r"\b(?:should|can|must|may|to|will|shall|now|safely|i|we|agent)\s+$", re.IGNORECASE
)


def parse_verdict(text: str) -> Verdict:
    """The verifier's decision; CONTINUE with ``parsed=False`` where there is none."""
    text = without_reasoning(text)[-TAIL:]
    found = _from_object(text) or _from_labels(text) or _from_signal(text) or _from_last_line(text)
    return found or Verdict(stop=False, analysis=text.strip(), parsed=False)


def stated_decision(text: str) -> bool | None:
    """True where ``text`` states STOP, False for CONTINUE, None for neither or both."""
    text = text[:MAX_STATEMENT]
    mentions = list(_mentions(levelled(text).translate(_MARKS)))
    formal = [states for states, is_formal in mentions if is_formal]
    informal = [states for states, is_formal in mentions if not is_formal]
    decisions = {stop for stop in formal or informal if stop is not None}
    return decisions.pop() if len(decisions) == 1 else None


def _mentions(text: str) -> Iterator[tuple[bool | None, bool]]:
    """Each mention of a word: what it states (None: nothing), and whether it is a formal one."""
    refused = False
    for number, sentence in enumerate(_SENTENCE_END.split(text)):
        asks = sentence.rstrip().endswith("?")
        parts = _CLAUSE_END.split(sentence)
        clauses, joints = parts[::2], ["", *parts[1::2]]
        for position, clause in enumerate(clauses):
            earlier = clauses[position - 1] if position else ""
            later = next(filter(str.strip, clauses[position + 1 :]), "")
            is_later = joints[position].lower() == "then" and (
                number or "".join(clauses[:position]).strip()
            )
            for match in _MENTION.finditer(clause):
                mention = _Mention(match[1], clause, match.start(), match.end(), earlier, later)
                is_formal = match[1].isupper() or (position == 0 and mention.is_first)
                if not is_formal and not _DIRECTIVE.search(mention.before):
                    continue
                if asks or (mention.stop and (refused or is_later)) or not mention.is_stated:
                    yield None, is_formal
                else:
                    yield mention.stop, is_formal
        refused = refused or bool(_NO_FIRST.match(sentence))


class _Mention:
    """STOP or CONTINUE with the words around it."""

    def __init__(self, word: str, clause: str, start: int, end: int, earlier: str, later: str):
        self.stop = word.lower() == "stop"
        self.before, self.after = clause[:start], clause[end:]
        self.earlier, self.later = earlier, later

    @property
    def is_first(self) -> bool:
        return not self.before.strip("' \t.-")

    @property
    def is_stated(self) -> bool:
        """Whether the words around it neither deny it nor make it depend on something."""
        if _DENIED_BEFORE.search(self.before) or _CONDITION.search(self.before):
            return False
        if _CONDITION_FIRST.search(self.earlier) or _CONDITION_FIRST.search(self.later):
            return False
        if not self.stop:
            depends = _CONDITION_FIRST.search(self.after) and not _UNTIL.match(self.after)
            return not (depends or _OTHERWISE.search(self.after))
        if _TAKEN_BACK.match(self.later):
            return False
        if self.later and not self.earlier.strip() and _PURPOSE.fullmatch(self.before):
            return False
        if _DENIED_AFTER.search(self.after) and not _THEN_A_REASON.match(self.after):
            return False
        if _CONDITION.search(self.after) or _LATER.search(self.after):
            return False
        affirmed = _ONLY_AFFIRMING.match(self.before) and _THEN_A_REASON.match(self.after)
        return bool(affirmed)


def _from_object(text: str) -> Verdict | None:
    if "{" not in text:
        return None
    objects: list[dict[str, Any]] = []
    for found in objects_in(text):  # a call's arguments are inside it
        objects += [*(each for each in found.value.values() if isinstance(each, dict)), found.value]
    for held in reversed(objects):
        values = {_GRAMMAR.key_of(name): value for name, value in held.items()}
        stop = _decision_in(held, values.get("conclusion"))
        if isinstance(stop, bool):
            return Verdict(stop=stop, analysis=_text(values, "analysis"))
        if "conclusion" in values:
            return Verdict(stop=False, analysis=_text(values, "analysis"), parsed=False)
    return None


def _decision_in(value: Mapping[str, Any], conclusion: Any) -> bool | None:
    """What an object decides: by its conclusion, else by the fields of a verifier's schema."""
    if isinstance(conclusion, list) and len(conclusion) == 1:
        conclusion = conclusion[0]
    for stated in (conclusion, value.get("stop")):
        if isinstance(stated, bool):
            return stated
        if isinstance(stated, str):
            return stated_decision(stated)
    signal = value.get("stop_signal")
    if isinstance(signal, str):
        signal = {"true": True, "false": False}.get(signal.strip().lower())
    return signal if isinstance(signal, bool) else None


def _text(values: Mapping[str | None, Any], key: str) -> str:
    value = values.get(key)
    return value.strip() if isinstance(value, str) else ""


def _from_labels(text: str) -> Verdict | None:
    conclusions = _conclusions(text)
    if not conclusions:
        return None
    last = conclusions[-1]
    stop = stated_decision(last.value)
    if stop is None:
        return Verdict(stop=False, analysis=text.strip(), parsed=False)
    return Verdict(stop=stop, analysis=_analysis(text[: last.start]))


def _conclusions(text: str) -> list[Labelled]:
    """The conclusions that hold anything, in order."""
    for read in (_GRAMMAR.at_line_starts, _GRAMMAR.anywhere):
        found = [part for part in read(text) if part.key == "conclusion" and part.value]
        if found:
            return found
    return [
        Labelled("conclusion", text[match.end() :], match.start())
        for match in _SPOKEN.finditer(levelled(text))
    ]


def _from_signal(text: str) -> Verdict | None:
    before, _, line = text.strip().rpartition("\n")
    signal = _SIGNAL.fullmatch(line)
    if signal is None or _CONDITION_FIRST.search(before.rstrip().rpartition("\n")[2]):
        return None
    return Verdict(stop=signal[1].lower() in ("true", "yes"), analysis=_analysis(before))


def _from_last_line(text: str) -> Verdict | None:
    before, _, line = text.strip().rpartition("\n")
    last = _SENTENCE_END.split(levelled(line).translate(_MARKS).strip())[-1]
    if not _WORD_LAST.fullmatch(last):
        return None
    stop = stated_decision(last)
    if stop is None:
        return None
    return Verdict(stop=stop, analysis=_analysis(f"{before}\n{line[: -len(last)]}"))


def _analysis(text: str) -> str:
    return _ANALYSIS.sub("", text.strip())
