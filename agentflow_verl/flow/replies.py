"""What the frozen modules reply: the JSON schema that their engine holds them to, and its reading.

The executor's schema is the tool's own. The planner has none: it is the one that is trained, and a
constraint would change the distribution that it is sampled from.
"""

from __future__ import annotations

import re
from typing import Any

from agentflow_verl.flow.answer import extract_answer, with_backslashes
from agentflow_verl.flow.parse.clean import without_reasoning
from agentflow_verl.flow.parse.objects import objects_in


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


# Short: what a small model writes beyond a sentence, it copies from the tools' descriptions, and
# the planner then copies it for its plan (docs/evidence.md).
ANALYSIS_CHARS = 240
ANALYSIS = _object(analysis={"type": "string", "maxLength": ANALYSIS_CHARS})
VERDICT = _object(
    analysis={"type": "string", "maxLength": 300},
    conclusion={"type": "string", "enum": ["STOP", "CONTINUE"]},
)
ANSWER = _object(
    reason={"type": "string", "maxLength": 400},
    # A model that means a number and must open a string writes "}" or "One" (docs/evidence.md).
    answer={"anyOf": [{"type": "string", "maxLength": 400}, {"type": "number"}]},
)

_SENTENCE_END = re.compile(r"[.!?](?=\s)|[。！？]")


def analysis_of(text: str) -> str:
    """The analyst's words: of its JSON object, else the whole text.

    An object's text that reached the schema's limit ends with its last whole sentence.
    """
    text = without_reasoning(text).strip()
    analysis = _field(text, "analysis")
    if not analysis:
        return text
    if len(analysis) >= ANALYSIS_CHARS:
        ends = [found.end() for found in _SENTENCE_END.finditer(analysis)]
        # "Dr." or "1." alone is no sentence.
        if ends and ends[-1] > len(analysis) / 3:
            analysis = analysis[: ends[-1]]
    return analysis.strip()


def answer_of(text: str) -> str:
    """The generator's answer: of its JSON object, else what ``extract_answer`` finds."""
    text = without_reasoning(text)
    answer = _field(text, "answer")
    if answer is None:
        return extract_answer(text)
    return extract_answer(f"<answer>{with_backslashes(answer)}</answer>")


def _field(text: str, name: str) -> str | None:
    """The field of the last object that has it, as text; of a list of words the words."""
    for found in reversed(objects_in(text)):
        value = found.value.get(name)
        if isinstance(value, list) and all(isinstance(each, str | int | float) for each in value):
            value = ", ".join(map(str, value))
        if isinstance(value, str):
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return str(value)
    return None
